/* What pool.c and fs.c share: a loop whose pool has its default of four threads. */
#ifndef BENCH_POOL_H
#define BENCH_POOL_H

#if defined(BENCH_EVLOOP)

static evl_loop_t loop;

static void init_loop(void) {
    bench_check(evl_loop_init(&loop) == 0, "evl_loop_init");
}

static void run_loop(void) {
    bench_check(evl_run(&loop, EVL_RUN_DEFAULT) == 0, "evl_run");
}

static void close_loop(void) {
    bench_check(evl_loop_close(&loop) == 0, "evl_loop_close");
}

#elif defined(BENCH_LIBUV)

static uv_loop_t loop;

static void init_loop(void) {
    bench_check(uv_loop_init(&loop) == 0, "uv_loop_init");
}

static void run_loop(void) {
    bench_check(uv_run(&loop, UV_RUN_DEFAULT) == 0, "uv_run");
}

static void close_loop(void) {
    bench_check(uv_loop_close(&loop) == 0, "uv_loop_close");
}

#endif

/* The threads start with the first job. */
static void open_loop(void) {
    unsetenv("EVLOOP_THREADPOOL_SIZE");
    unsetenv("UV_THREADPOOL_SIZE");
    init_loop();
}

#endif /* BENCH_POOL_H */
