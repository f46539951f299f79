/* cc -O2 -o pool bench/pool.c -pthread */
/* What a job on the worker pool costs, from the loop to a thread and back, when jobs come in batches:
 * the next batch starts when the last one is done. With libuv beside it, in the same run:
 *
 *     cc -O2 -DWITH_LIBUV -o pool bench/pool.c -pthread -luv
 *
 * The libraries take turns. Printed are nanoseconds for each job, the median of the rounds. */
#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#if defined(WITH_LIBUV)
#include <uv.h>
#endif

enum { ROUNDS = 7, MOST = 10000 };

typedef struct {
    const char *name;
    double (*work)(unsigned batch, unsigned jobs);
    double (*stat)(unsigned batch, unsigned jobs);
} library_t;

static unsigned to_start, to_end; /* of all jobs; of the batch */

static void check(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "pool: %s\n", what);
    exit(1);
}

/* ---- evloop.h ---- */

static evl_loop_t evl_loop;
static evl_work_t evl_works[MOST];
static evl_fs_t evl_stats[MOST];

static void evl_nothing(evl_work_t *work) {
    (void)work;
}

static void evl_work_batch(unsigned batch);

static void on_evl_work(evl_work_t *work, int status) {
    (void)work;
    check(status == 0, "evl_queue_work: the job failed");
    if (--to_end == 0 && to_start > 0)
        evl_work_batch((unsigned)(uintptr_t)evl_loop.data);
}

static void evl_work_batch(unsigned batch) {
    to_start -= batch;
    to_end = batch;
    for (unsigned i = 0; i < batch; i++)
        check(evl_queue_work(&evl_loop, &evl_works[i], evl_nothing, on_evl_work) == 0,
              "evl_queue_work failed");
}

static double evl_work(unsigned batch, unsigned jobs) {
    uint64_t begin;
    check(evl_loop_init(&evl_loop) == 0, "evl_loop_init failed");
    evl_loop.data = (void *)(uintptr_t)batch;
    to_start = jobs;
    begin = evl_hrtime();
    evl_work_batch(batch);
    evl_run(&evl_loop, EVL_RUN_DEFAULT);
    begin = evl_hrtime() - begin;
    check(evl_loop_close(&evl_loop) == 0, "evl_loop_close failed");
    return (double)begin / jobs;
}

static void evl_stat_batch(unsigned batch);

static void on_evl_stat(evl_fs_t *stat) {
    check(stat->result == 0, "evl_fs_stat: the job failed");
    evl_fs_req_cleanup(stat);
    if (--to_end == 0 && to_start > 0)
        evl_stat_batch((unsigned)(uintptr_t)evl_loop.data);
}

static void evl_stat_batch(unsigned batch) {
    to_start -= batch;
    to_end = batch;
    for (unsigned i = 0; i < batch; i++)
        check(evl_fs_stat(&evl_loop, &evl_stats[i], ".", on_evl_stat) == 0, "evl_fs_stat failed");
}

static double evl_stat(unsigned batch, unsigned jobs) {
    uint64_t begin;
    check(evl_loop_init(&evl_loop) == 0, "evl_loop_init failed");
    evl_loop.data = (void *)(uintptr_t)batch;
    to_start = jobs;
    begin = evl_hrtime();
    evl_stat_batch(batch);
    evl_run(&evl_loop, EVL_RUN_DEFAULT);
    begin = evl_hrtime() - begin;
    check(evl_loop_close(&evl_loop) == 0, "evl_loop_close failed");
    return (double)begin / jobs;
}

/* ---- libuv ---- */

#if defined(WITH_LIBUV)

static uv_loop_t uv_loop;
static uv_work_t uv_works[MOST];
static uv_fs_t uv_stats[MOST];

static void uv_nothing(uv_work_t *work) {
    (void)work;
}

static void uv_work_batch(unsigned batch);

static void on_uv_work(uv_work_t *work, int status) {
    (void)work;
    check(status == 0, "uv_queue_work: the job failed");
    if (--to_end == 0 && to_start > 0)
        uv_work_batch((unsigned)(uintptr_t)uv_loop.data);
}

static void uv_work_batch(unsigned batch) {
    to_start -= batch;
    to_end = batch;
    for (unsigned i = 0; i < batch; i++)
        check(uv_queue_work(&uv_loop, &uv_works[i], uv_nothing, on_uv_work) == 0,
              "uv_queue_work failed");
}

static double uv_work(unsigned batch, unsigned jobs) {
    uint64_t begin;
    check(uv_loop_init(&uv_loop) == 0, "uv_loop_init failed");
    uv_loop.data = (void *)(uintptr_t)batch;
    to_start = jobs;
    begin = uv_hrtime();
    uv_work_batch(batch);
    uv_run(&uv_loop, UV_RUN_DEFAULT);
    begin = uv_hrtime() - begin;
    check(uv_loop_close(&uv_loop) == 0, "uv_loop_close failed");
    return (double)begin / jobs;
}

static void uv_stat_batch(unsigned batch);

static void on_uv_stat(uv_fs_t *stat) {
    check(stat->result == 0, "uv_fs_stat: the job failed");
    uv_fs_req_cleanup(stat);
    if (--to_end == 0 && to_start > 0)
        uv_stat_batch((unsigned)(uintptr_t)uv_loop.data);
}

static void uv_stat_batch(unsigned batch) {
    to_start -= batch;
    to_end = batch;
    for (unsigned i = 0; i < batch; i++)
        check(uv_fs_stat(&uv_loop, &uv_stats[i], ".", on_uv_stat) == 0, "uv_fs_stat failed");
}

static double uv_stat(unsigned batch, unsigned jobs) {
    uint64_t begin;
    check(uv_loop_init(&uv_loop) == 0, "uv_loop_init failed");
    uv_loop.data = (void *)(uintptr_t)batch;
    to_start = jobs;
    begin = uv_hrtime();
    uv_stat_batch(batch);
    uv_run(&uv_loop, UV_RUN_DEFAULT);
    begin = uv_hrtime() - begin;
    check(uv_loop_close(&uv_loop) == 0, "uv_loop_close failed");
    return (double)begin / jobs;
}

#endif

static const library_t libraries[] = {
    {"evloop.h", evl_work, evl_stat},
#if defined(WITH_LIBUV)
    {"libuv", uv_work, uv_stat},
#endif
};

enum { LIBRARIES = sizeof(libraries) / sizeof(libraries[0]) };

/* ---- Running and printing ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(const char *what, unsigned batch, unsigned jobs, int stats) {
    double costs[LIBRARIES][ROUNDS];
    jobs -= jobs % batch;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < LIBRARIES; i++)
            costs[i][round] =
                stats ? libraries[i].stat(batch, jobs) : libraries[i].work(batch, jobs);
    printf("%-14s %7u", what, batch);
    for (int i = 0; i < LIBRARIES; i++) {
        qsort(costs[i], ROUNDS, sizeof(costs[i][0]), by_size);
        printf(" %9.0f", costs[i][ROUNDS / 2]);
    }
    if (LIBRARIES > 1)
        printf("     %.2f", costs[0][ROUNDS / 2] / costs[LIBRARIES - 1][ROUNDS / 2]);
    printf("\n");
}

/* Options: a batch and a number of jobs, for that alone. */
int main(int argc, char **argv) {
    unsigned batch = argc > 2 ? (unsigned)strtoul(argv[1], NULL, 10) : 0;
    unsigned jobs = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    printf("%-14s %7s", "ns per job", "batch");
    for (int i = 0; i < LIBRARIES; i++)
        printf(" %9s", libraries[i].name);
    printf(LIBRARIES > 1 ? "    ratio\n" : "\n");
    if (batch > 0 && batch <= MOST && jobs >= batch) {
        measure("empty", batch, jobs, 0);
        return 0;
    }
    measure("empty", 1, 20000, 0);
    measure("empty", 64, 300000, 0);
    measure("empty", MOST, 500000, 0);
    measure("stat", 1, 20000, 1);
    measure("stat", 64, 200000, 1);
    return 0;
}
