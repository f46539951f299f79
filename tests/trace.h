/* trace.h - helpers for tests of order: a string of what has happened, and the end of a loop. */
#ifndef EVLOOP_TEST_TRACE_H
#define EVLOOP_TEST_TRACE_H

#include "os.h"

static char trace_text[1 << 16];
static size_t trace_length;

static inline void trace_reset(void) {
    trace_length = 0;
    trace_text[0] = '\0';
}

static inline void trace(const char *what) {
    size_t length = strlen(what);
    CHECK(trace_length + length < sizeof(trace_text));
    memcpy(trace_text + trace_length, what, length + 1);
    trace_length += length;
}

/* For handles and tasks whose data or argument is the text to add. */
static inline void trace_timer(evl_timer_t *timer) {
    trace((const char *)timer->data);
}

static inline void trace_close(evl_handle_t *handle) {
    trace((const char *)handle->data);
}

static inline void trace_task(evl_loop_t *loop, void *arg) {
    (void)loop;
    trace((const char *)arg);
}

static inline void trace_prepare(evl_prepare_t *prepare) {
    (void)prepare;
    trace("p");
}

static inline void trace_check(evl_check_t *check) {
    (void)check;
    trace("c");
}

/* Traces "p" before each poll phase and "c" after it; neither keeps the loop alive. */
static inline void trace_polls(evl_loop_t *loop, evl_prepare_t *prepare, evl_check_t *check) {
    CHECK_EQ(evl_prepare_init(loop, prepare), 0);
    CHECK_EQ(evl_prepare_start(prepare, trace_prepare), 0);
    evl_unref((evl_handle_t *)prepare);
    CHECK_EQ(evl_check_init(loop, check), 0);
    CHECK_EQ(evl_check_start(check, trace_check), 0);
    evl_unref((evl_handle_t *)check);
}

/* A text as the `void *` that data and arguments are. */
static inline void *text(const char *what) {
    return (void *)(uintptr_t)what;
}

/* Compares what was traced and begins anew. */
#define CHECK_TRACE(expected)                                                                      \
    do {                                                                                           \
        CHECK_STR(trace_text, expected);                                                           \
        trace_reset();                                                                             \
    } while (0)

/* A function that must not be called. */
static inline void never_timer(evl_timer_t *timer) {
    (void)timer;
    test_fail(__FILE__, __LINE__, "this timer must not run");
}

static inline void never_task(evl_loop_t *loop, void *arg) {
    (void)loop;
    (void)arg;
    test_fail(__FILE__, __LINE__, "this task must not run");
}

static inline void never_close(evl_handle_t *handle) {
    (void)handle;
    test_fail(__FILE__, __LINE__, "this close callback must not run");
}

/* Keeps the processor busy. */
static inline void busy_ns(uint64_t ns) {
    uint64_t start = test_ns();
    while (test_ns() - start < ns)
        continue;
}

static inline void close_if_open(evl_handle_t *handle, void *arg) {
    (void)arg;
    if (!evl_is_closing(handle))
        evl_close(handle, NULL);
}

/* Closes every handle, runs the loop to its end and closes it. */
static inline void finish(evl_loop_t *loop) {
    evl_walk(loop, close_if_open, NULL);
    CHECK_EQ(evl_run(loop, EVL_RUN_DEFAULT), 0);
    CHECK_EQ(evl_loop_alive(loop), 0);
    CHECK_EQ(evl_loop_close(loop), 0);
}

/* A flag or counter that threads and signal handlers share. */
#if defined(__GNUC__) && !defined(__TINYC__)
static inline int shared_get(volatile int *value) {
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static inline void shared_set(volatile int *value, int to) {
    __atomic_store_n(value, to, __ATOMIC_RELEASE);
}
#else
static inline int shared_get(volatile int *value) {
    return *value;
}

static inline void shared_set(volatile int *value, int to) {
    *value = to;
}
#endif

#endif
