#pragma once
// Threads that work together on one job: barriers between its phases, and a counter of tasks inside each.
//
// Every thread runs the same function on the same job. All of them come to the same barriers; between two of
// them, EACH_TASK hands out the numbers 0..count-1 once each. A thread takes its own run of numbers first, so
// that what tasks read passes by as one stream of memory, and then what other threads have not come to yet.

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { MOST_THREADS = 256 };

// How long a thread waits awake, in nanoseconds: for the others at a barrier, and for a next step. Then it
// sleeps.
//
// On a machine in use the thread that it waits for may have lost its core, and can have this one. After a
// sleep of LONG_SLEEP, which a thread that computes does not cause, threads sleep at once for BUSY_TIME:
// those that waited awake would have used up the time that the system gives them, and be the last to run
// again.
#ifndef BARRIER_WAIT
enum { BARRIER_WAIT = 100000, CALL_WAIT = 200000 };
#endif
#ifndef LONG_SLEEP
enum { LONG_SLEEP = 400000, BUSY_TIME = 50000000 };
#endif

typedef void Function(const void *job, int thread);

typedef struct {
    int thread, call;
} Start;

static struct {
    pthread_mutex_t turn, lock;
    pthread_cond_t called;
    int started;
    Start starts[MOST_THREADS];
    atomic_int threads, arrived, phase, sleeping, call;
    atomic_llong busy_until;  // when threads wait awake again
    struct {
        _Alignas(64) atomic_int count;
    } taken[MOST_THREADS];  // of each thread's run
    Function *function;
    const void *job;
} pool;

static _Thread_local int self;  // the number of this thread in the job

static inline int64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

// Waits awake while *value is `old`, for at most `limit` nanoseconds and not while the machine is busy;
// returns whether it has changed.
static int changed_within(atomic_int *value, int old, int64_t limit) {
    int64_t end = 0;
    for (int turns = 0; atomic_load_explicit(value, memory_order_acquire) == old; turns++) {
        pause_briefly();
        if (turns % 16) continue;
        int64_t now = nanoseconds();
        if (!end)
            end = now < atomic_load_explicit(&pool.busy_until, memory_order_relaxed) ? now : now + limit;
        if (now >= end) return 0;
    }
    return 1;
}

// Sleeps while *value is `old`; `wake` ends it. Without futexes other threads get the core.
static void sleep_while(atomic_int *value, int old) {
#ifdef __linux__
    while (atomic_load(value) == old) syscall(SYS_futex, value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
#else
    while (atomic_load(value) == old) sched_yield();
#endif
}

static void wake(atomic_int *value) {
#ifdef __linux__
    syscall(SYS_futex, value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
#else
    (void)value;
#endif
}

static void forget_taken(void) {
    for (int i = 0; i < pool.threads; i++)
        atomic_store_explicit(&pool.taken[i].count, 0, memory_order_relaxed);
}

// Waits for all threads, and resets the count of tasks.
static void barrier(void) {
    int phase = atomic_load(&pool.phase), threads = pool.threads;  // the last to come may already be in the
                                                                   // next call
    if (atomic_fetch_add(&pool.arrived, 1) == threads - 1) {
        atomic_store(&pool.arrived, 0);
        forget_taken();
        atomic_fetch_add(&pool.phase, 1);
        if (atomic_load(&pool.sleeping)) wake(&pool.phase);
        return;
    }
    if (changed_within(&pool.phase, phase, BARRIER_WAIT)) return;
    int64_t began = nanoseconds();
    atomic_fetch_add(&pool.sleeping, 1);
    sleep_while(&pool.phase, phase);
    atomic_fetch_sub(&pool.sleeping, 1);
    int64_t now = nanoseconds();
    if (now - began > LONG_SLEEP)
        atomic_store_explicit(&pool.busy_until, now + BUSY_TIME, memory_order_relaxed);
}

static int next_task(int count) {
    int64_t threads = pool.threads;
    for (int turn = 0; turn < threads; turn++) {
        int owner = (self + turn) % threads, begin = count * owner / threads,
            end = count * (owner + 1) / threads;
        if (begin + atomic_load_explicit(&pool.taken[owner].count, memory_order_relaxed) >= end) continue;
        int task = begin + atomic_fetch_add_explicit(&pool.taken[owner].count, 1, memory_order_relaxed);
        if (task < end) return task;
    }
    return count;
}

#define EACH_TASK(task, count) for (int task, all = (count); (task = next_task(all)) < all;)

static void *work(void *argument) {
    Start start = *(Start *)argument;
    self = start.thread;
    for (int call = start.call;;) {
        changed_within(&pool.call, call, CALL_WAIT);
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.call) == call) pthread_cond_wait(&pool.called, &pool.lock);
        call = atomic_load(&pool.call);
        int needed = start.thread < pool.threads;
        pthread_mutex_unlock(&pool.lock);
        if (needed) pool.function(pool.job, start.thread);
    }
    return NULL;
}

static void forget_threads(void) {
    memset(&pool, 0, sizeof pool);
    pthread_mutex_init(&pool.turn, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.called, NULL);
    pool.started = 1;
}

// When the library is loaded, so that no two first calls meet; a forked child has none of its parent's
// threads.
__attribute__((constructor)) static void prepare(void) {
    forget_threads();
    pthread_atfork(NULL, NULL, forget_threads);
}

// Runs `function(job, thread)` on `threads` threads, this one among them; they are started when first needed,
// and sleep between calls.
static void run_together(Function *function, const void *job, int threads) {
    pthread_mutex_lock(&pool.turn);
    for (; pool.started < threads && pool.started < MOST_THREADS; pool.started++) {
        Start *start = &pool.starts[pool.started];
        *start = (Start){pool.started, atomic_load(&pool.call)};
        pthread_t handle;
        if (pthread_create(&handle, NULL, work, start) != 0) break;
        pthread_detach(handle);
    }
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.threads, threads < pool.started ? threads : pool.started);
    forget_taken();
    pool.function = function;
    pool.job = job;
    atomic_fetch_add(&pool.call, 1);
    pthread_cond_broadcast(&pool.called);
    pthread_mutex_unlock(&pool.lock);
    self = 0;
    function(job, 0);
    pthread_mutex_unlock(&pool.turn);
}
