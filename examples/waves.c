/* cc -O2 -o waves examples/waves.c -pthread */

/* waves - a pool works on as many jobs at a time as it has threads.
 *
 *     ./waves            twelve jobs of 100 ms on the default pool of four threads
 *     ./waves 6          on a pool of six
 *
 * The jobs are queued all at once, and come back in waves: the first four after 100 ms, the next four
 * after 200. While they run the loop is free, as the dots show, which a timer prints meanwhile. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>

enum { JOBS = 12, JOB_MS = 100, DOT_MS = 20 };

static evl_timer_t dots;
static uint64_t begin;
static int left = JOBS;

static void check(int result, const char *what) {
    if (result >= 0)
        return;
    fprintf(stderr, "waves: %s: %s\n", what, evl_strerror(result));
    exit(1);
}

/* On a thread of the pool. */
static void work(evl_work_t *job) {
    (void)job;
    evl_sleep(JOB_MS);
}

/* On the loop's. */
static void after_work(evl_work_t *job, int status) {
    check(status, "evl_queue_work");
    printf(" %d", *(int *)job->data);
    if (--left == 0)
        evl_close((evl_handle_t *)&dots, NULL);
}

static void on_dot(evl_timer_t *timer) {
    (void)timer;
    printf(".");
    fflush(stdout);
}

static void print_times(evl_pool_t *pool) {
    static evl_pool_stats_t stats;
    do { /* the threads tell what they have done a moment after */
        check(evl_pool_stats(pool, &stats), "evl_pool_stats");
    } while (stats.completed < JOBS);
    printf("\n%u threads, %d jobs in %.0f ms; they waited for up to %.0f ms and ran for %.0f\n",
           stats.threads, JOBS, (double)(evl_hrtime() - begin) / 1e6,
           (double)evl_histogram_max(&stats.wait_ns) / 1e6,
           evl_histogram_mean(&stats.run_ns) / 1e6);
}

int main(int argc, char **argv) {
    static evl_work_t jobs[JOBS];
    static int numbers[JOBS];
    evl_pool_options_t options = {0, 0, 0, "waves"};
    evl_loop_t loop;
    evl_pool_t pool;
    int own = argc > 1;
    check(evl_loop_init(&loop), "evl_loop_init");
    if (own) {
        options.threads = (unsigned)atoi(argv[1]);
        check(evl_pool_init(&pool, &options), "evl_pool_init");
        check(evl_loop_set_pool(&loop, &pool), "evl_loop_set_pool");
    }
    begin = evl_hrtime();
    evl_timer_init(&loop, &dots);
    check(evl_timer_start(&dots, on_dot, DOT_MS, DOT_MS), "evl_timer_start");
    for (int i = 0; i < JOBS; i++) {
        numbers[i] = i + 1;
        jobs[i].data = &numbers[i];
        check(evl_queue_work(&loop, &jobs[i], work, after_work), "evl_queue_work");
    }
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    print_times(own ? &pool : NULL);
    check(evl_loop_close(&loop), "evl_loop_close");
    if (own)
        check(evl_pool_close(&pool), "evl_pool_close");
    evl_library_shutdown();
    return 0;
}
