// Phases of tasks on several threads: every task is done once, after all tasks of the phase before it.
// Compiled with waits of no time, in which every thread that waits sleeps, and with the usual ones.

#include <stdio.h>

#include "threads.h"

enum { PHASES = 50, TASKS = 37, CALLS = 200 };
static atomic_int done[PHASES][TASKS], failures;

static void job(const void *unused, int thread) {
    (void)unused, (void)thread;
    for (int phase = 0; phase < PHASES; phase++) {
        EACH_TASK(task, TASKS) {
            for (int other = 0; phase > 0 && other < TASKS; other++) failures += done[phase - 1][other] != 1;
            done[phase][task]++;
        }
        barrier();
    }
}

int main(void) {
    for (int call = 0; call < CALLS; call++) {
        memset(done, 0, sizeof done);
        run_together(job, NULL, 1 + call % 6);
        for (int i = 0; i < PHASES * TASKS; i++) failures += done[i / TASKS][i % TASKS] != 1;
    }
    printf("%d\n", failures);
    return failures != 0;
}
