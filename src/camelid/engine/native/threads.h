#pragma once
// Threads that work together on one job: barriers between its phases, and a counter of tasks inside each.
//
// Every thread runs the same function on the same job. All of them come to the same barriers; between two of them,
// EACH_TASK hands out the numbers 0..count-1 once each. A thread takes its own run of numbers first, so that what tasks read
// passes by as one stream of memory, and then what other threads have not come to yet.

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

enum { MOST_THREADS = 256, SPINS = 1000, CALL_SPINS = 20000 };  // a thread waits awake for a next step for a fraction of a millisecond

typedef void Function(const void *job, int thread);

typedef struct {
    int thread, call;
} Start;

static struct {
    pthread_mutex_t turn, lock;
    pthread_cond_t wake;
    int started;
    Start starts[MOST_THREADS];
    atomic_int threads, arrived, phase, call;
    struct {
        _Alignas(64) atomic_int count;
    } taken[MOST_THREADS];  // of each thread's run
    Function *function;
    const void *job;
} pool;

static _Thread_local int self;  // the number of this thread in the job

static inline void rest(int turns) {
    if (turns > SPINS) sched_yield();
#if defined(__x86_64__)
    else __builtin_ia32_pause();
#endif
}

static void forget_taken(void) {
    for (int i = 0; i < pool.threads; i++) atomic_store_explicit(&pool.taken[i].count, 0, memory_order_relaxed);
}

// Waits for all threads, and starts the count of tasks anew.
static void barrier(void) {
    int phase = atomic_load(&pool.phase), threads = pool.threads;  // the last to come may already be in the next call
    if (atomic_fetch_add(&pool.arrived, 1) == threads - 1) {
        atomic_store(&pool.arrived, 0);
        forget_taken();
        atomic_fetch_add(&pool.phase, 1);
        return;
    }
    for (int turns = 0; atomic_load(&pool.phase) == phase; turns++) rest(turns);
}

static int next_task(int count) {
    int64_t threads = pool.threads;
    for (int turn = 0; turn < threads; turn++) {
        int owner = (self + turn) % threads, begin = count * owner / threads, end = count * (owner + 1) / threads;
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
        for (int turns = 0; atomic_load(&pool.call) == call && turns < CALL_SPINS; turns++) rest(0);
        pthread_mutex_lock(&pool.lock);
        while (atomic_load(&pool.call) == call) pthread_cond_wait(&pool.wake, &pool.lock);
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
    pthread_cond_init(&pool.wake, NULL);
    pool.started = 1;
}

// When the library is loaded, so that no two first calls meet; a forked child has none of its parent's threads.
__attribute__((constructor)) static void prepare(void) {
    forget_threads();
    pthread_atfork(NULL, NULL, forget_threads);
}

// Runs `function(job, thread)` on `threads` threads, this one among them; they are started when first needed, and sleep between calls.
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
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.lock);
    self = 0;
    function(job, 0);
    pthread_mutex_unlock(&pool.turn);
}
