/* cc -O2 -o timers bench/timers.c -pthread */
/* What a timer costs: to start it among others, to start it anew at a later time (as every socket
 * timeout does), and to have it expire. With libuv beside it, in the same run:
 *
 *     cc -O2 -DWITH_LIBUV -o timers bench/timers.c -pthread -luv
 *
 * The libraries take turns. Printed are nanoseconds for each timer, the median of the rounds. */
#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#if defined(WITH_LIBUV)
#include <uv.h>
#endif

enum { ROUNDS = 7, MOST = 1000000 };

typedef struct {
    double start, restart, expire;
} costs_t;

typedef struct {
    const char *name;
    costs_t (*round)(unsigned count);
} library_t;

static uint32_t seed;
static unsigned expired;

/* The same delays for everyone: 1 to 100 ms. */
static uint64_t delay(void) {
    seed = seed * 1664525u + 1013904223u;
    return 1 + (seed >> 8) % 100;
}

static void check(int ok, const char *what) {
    if (ok)
        return;
    fprintf(stderr, "timers: %s\n", what);
    exit(1);
}

static double per_timer(uint64_t begin, uint64_t end, unsigned count) {
    return (double)(end - begin) / count;
}

/* ---- evloop.h ---- */

static void on_evl_timer(evl_timer_t *timer) {
    (void)timer;
    expired++;
}

static costs_t round_evl(unsigned count) {
    static evl_timer_t timers[MOST];
    evl_loop_t loop;
    costs_t costs;
    uint64_t begin;
    check(evl_loop_init(&loop) == 0, "evl_loop_init failed");
    for (unsigned i = 0; i < count; i++)
        evl_timer_init(&loop, &timers[i]);
    begin = evl_hrtime();
    for (unsigned i = 0; i < count; i++)
        evl_timer_start(&timers[i], on_evl_timer, delay(), 0);
    costs.start = per_timer(begin, evl_hrtime(), count);
    begin = evl_hrtime();
    for (unsigned i = 0; i < count; i++)
        evl_timer_start(&timers[i], on_evl_timer, 100 + delay(), 0);
    costs.restart = per_timer(begin, evl_hrtime(), count);
    evl_sleep(210); /* until all are due, so that waiting is not measured */
    begin = evl_hrtime();
    evl_run(&loop, EVL_RUN_DEFAULT);
    costs.expire = per_timer(begin, evl_hrtime(), count);
    check(evl_loop_destroy(&loop, 0) == 0, "evl_loop_destroy failed");
    return costs;
}

/* ---- libuv ---- */

#if defined(WITH_LIBUV)

static void on_uv_timer(uv_timer_t *timer) {
    (void)timer;
    expired++;
}

static costs_t round_uv(unsigned count) {
    static uv_timer_t timers[MOST];
    uv_loop_t loop;
    costs_t costs;
    uint64_t begin;
    check(uv_loop_init(&loop) == 0, "uv_loop_init failed");
    for (unsigned i = 0; i < count; i++)
        uv_timer_init(&loop, &timers[i]);
    begin = uv_hrtime();
    for (unsigned i = 0; i < count; i++)
        uv_timer_start(&timers[i], on_uv_timer, delay(), 0);
    costs.start = per_timer(begin, uv_hrtime(), count);
    begin = uv_hrtime();
    for (unsigned i = 0; i < count; i++)
        uv_timer_start(&timers[i], on_uv_timer, 100 + delay(), 0);
    costs.restart = per_timer(begin, uv_hrtime(), count);
    uv_sleep(210);
    begin = uv_hrtime();
    uv_run(&loop, UV_RUN_DEFAULT);
    costs.expire = per_timer(begin, uv_hrtime(), count);
    for (unsigned i = 0; i < count; i++)
        uv_close((uv_handle_t *)&timers[i], NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    check(uv_loop_close(&loop) == 0, "uv_loop_close failed");
    return costs;
}

#endif

static const library_t libraries[] = {
    {"evloop.h", round_evl},
#if defined(WITH_LIBUV)
    {"libuv", round_uv},
#endif
};

enum { LIBRARIES = sizeof(libraries) / sizeof(libraries[0]) };

/* ---- Running and printing ---- */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values) {
    qsort(values, ROUNDS, sizeof(values[0]), by_size);
    return values[ROUNDS / 2];
}

static void compare(unsigned count) {
    static double start[LIBRARIES][ROUNDS], restart[LIBRARIES][ROUNDS], expire[LIBRARIES][ROUNDS];
    for (int round = -1; round < ROUNDS; round++) /* the first one warms up */
        for (int i = 0; i < LIBRARIES; i++) {
            costs_t costs;
            int slot = round < 0 ? 0 : round;
            seed = 1;
            expired = 0;
            costs = libraries[i].round(count);
            check(expired == count, "not every timer expired once");
            start[i][slot] = costs.start;
            restart[i][slot] = costs.restart;
            expire[i][slot] = costs.expire;
        }
    for (int i = 0; i < LIBRARIES; i++)
        printf("%-10s %9u %9.1f %9.1f %9.1f\n", libraries[i].name, count, median(start[i]),
               median(restart[i]), median(expire[i]));
}

int main(void) {
    printf("%-10s %9s %9s %9s %9s\n", "", "timers", "start", "restart", "expire");
    compare(1000);
    compare(100000);
    compare(MOST);
    return 0;
}
