/* A job on the worker pool, from the loop to a thread and back.
 * Libraries: evloop libuv
 *
 * Empty jobs come in batches: the next batch starts when the last job of this one is done. In the other
 * cases 64 jobs are under way, each that ends starts the next one, and some are long; what counts is how
 * long the others, which do nothing, take from their start to their callback. "mixed": every 16th job
 * burns 2 ms of CPU, so that all threads are busy and everyone waits in the queue. "blocked": two
 * threads sit in jobs that sleep for 2 ms, as if for a disk, and two are free: nobody has to wait unless
 * a job stands behind a sleeper. Both pools have their default of 4 threads. */
#include "bench.h"
#include "pool.h"

enum {
    EMPTY_1 = 20000, /* jobs in all, by batch */
    EMPTY_64 = 200000,
    EMPTY_10000 = 500000,
    MOST = 10000,
    UNDER_WAY = 64,
    MIXED = 3200,
    BESIDE = 100000,
    LONG_NS = 2000000
};

static enum { EMPTY, MIX, BLOCKED } mode;
static unsigned batch;                 /* empty: how many start together */
static unsigned to_start, to_end;      /* of all jobs; empty: to_end is of the batch */
static unsigned started, ended;        /* jobs and callbacks so far */
static uint64_t started_ns[UNDER_WAY]; /* of the job in a slot; 0 for a long one */
static uint64_t *waited_ns;            /* of the short jobs that ended */
static unsigned short_count;

/* Each library defines this: start_job() queues the request with the number `slot`. */
static void start_job(unsigned slot, int is_long);

/* Work for a thread, by its own CPU time: the same however many threads share a core. */
static void burn(void) {
    struct timespec from, now;
    volatile uint32_t sink = 1;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    do {
        uint32_t seed = sink;
        for (int i = 0; i < 10000; i++)
            bench_random(&seed);
        sink = seed;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    } while ((now.tv_sec - from.tv_sec) * 1000000000LL + now.tv_nsec - from.tv_nsec < LONG_NS);
}

static void start_batch(void) {
    to_start -= batch;
    to_end = batch;
    for (unsigned i = 0; i < batch; i++)
        start_job(i, 0);
}

/* What a long job does. */
static void work_for_long(void) {
    struct timespec pause = {0, LONG_NS};
    if (mode == MIX)
        burn();
    else
        nanosleep(&pause, NULL);
}

/* Of those that burn every 16th is one; two of the 64 slots sleep. */
static void start_mixed(unsigned slot) {
    int is_long = mode == MIX ? started % 16 == 15 : slot % 32 == 31;
    started++;
    to_start--;
    started_ns[slot] = is_long ? 0 : bench_now_ns();
    start_job(slot, is_long);
}

/* Each library's callback ends here. */
static void job_ended(unsigned slot) {
    ended++;
    to_end--;
    if (mode == EMPTY) {
        if (to_end == 0 && to_start > 0)
            start_batch();
        return;
    }
    if (started_ns[slot] != 0)
        waited_ns[short_count++] = bench_now_ns() - started_ns[slot];
    if (to_start > 0)
        start_mixed(slot);
}

#if defined(BENCH_EVLOOP)

static evl_work_t works[MOST];

static void work_nothing(evl_work_t *work) {
    (void)work;
}

static void work_long(evl_work_t *work) {
    (void)work;
    work_for_long();
}

static void on_work(evl_work_t *work, int status) {
    bench_check(status == 0, "the job");
    job_ended((unsigned)(work - works));
}

static void start_job(unsigned slot, int is_long) {
    bench_check(evl_queue_work(&loop, &works[slot], is_long ? work_long : work_nothing, on_work) ==
                    0,
                "evl_queue_work");
}

#elif defined(BENCH_LIBUV)

static uv_work_t works[MOST];

static void work_nothing(uv_work_t *work) {
    (void)work;
}

static void work_long(uv_work_t *work) {
    (void)work;
    work_for_long();
}

static void on_work(uv_work_t *work, int status) {
    bench_check(status == 0, "the job");
    job_ended((unsigned)(work - works));
}

static void start_job(unsigned slot, int is_long) {
    bench_check(uv_queue_work(&loop, &works[slot], is_long ? work_long : work_nothing, on_work) ==
                    0,
                "uv_queue_work");
}

#endif

/* Nanoseconds for each of so many jobs. */
static double run_empty(unsigned size, unsigned batches) {
    uint64_t begin = bench_now_ns();
    batch = size;
    to_start = size * batches;
    ended = 0;
    start_batch();
    run_loop();
    begin = bench_now_ns() - begin;
    bench_check(ended == size * batches, "running every job once");
    return (double)begin / ended;
}

static void measure_empty(const char *name, unsigned size, unsigned jobs) {
    if (bench_wants(name))
        bench_report(name, "ns", run_empty(size, bench_scaled(jobs / size)));
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void report_waited(const char *name, const char *which, unsigned per_mille) {
    char text[64];
    snprintf(text, sizeof(text), "%s: short %s", name, which);
    bench_report(text, "us", waited_ns[(uint64_t)short_count * per_mille / 1000] / 1e3);
}

static void measure_mixed(const char *name, int how, unsigned jobs) {
    char text[64];
    uint64_t begin;
    if (!bench_wants(name))
        return;
    mode = how;
    waited_ns = (uint64_t *)calloc(jobs, sizeof(waited_ns[0]));
    bench_check(waited_ns != NULL, "calloc");
    to_start = to_end = jobs;
    started = ended = short_count = 0;
    begin = bench_now_ns();
    for (unsigned i = 0; i < UNDER_WAY && i < jobs; i++)
        start_mixed(i);
    run_loop();
    begin = bench_now_ns() - begin;
    bench_check(ended == jobs && started == jobs && short_count <= jobs, "running every job once");
    qsort(waited_ns, short_count, sizeof(waited_ns[0]), by_size);
    report_waited(name, "median", 500);
    report_waited(name, "p99", 990);
    if (how == BLOCKED)
        report_waited(name, "p99.9", 999);
    snprintf(text, sizeof(text), "%s: all", name);
    bench_report(text, "us", begin / 1e3 / jobs);
    free(waited_ns);
}

int main(int argc, char **argv) {
    bench_begin(argc, argv);
    open_loop();
    run_empty(UNDER_WAY, 10); /* so that the threads are there */
    measure_empty("batches of 1", 1, EMPTY_1);
    measure_empty("batches of 64", 64, EMPTY_64);
    measure_empty("batches of 10000", MOST, EMPTY_10000);
    measure_mixed("mixed", MIX, bench_scaled(MIXED));
    measure_mixed("blocked", BLOCKED, bench_scaled(BESIDE));
    close_loop();
    return 0;
}
