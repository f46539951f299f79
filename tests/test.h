/* test.h - what a test file includes, and all it may rely on.
 *
 *     #include "test.h"
 *
 *     TEST(timer_fires_once) {
 *         evl_loop_t loop;
 *         CHECK_EQ(evl_loop_init(&loop), 0);
 *         ...
 *         CHECK_EQ(evl_loop_close(&loop), 0);
 *     }
 *
 * Test names are unique across all files. A test is found by its `TEST(` at the start of a line;
 * there is no list to keep. It may stand inside `#if`: the condition is evaluated again in
 * tests/main.c, so it may only name macros of the compiler, of the command line and of this header
 * (EVLOOP_NO_NET, __linux__, ...), not ones that the file defines.
 *
 * Each test runs in a process of its own, once per backend, with a time limit, stdin at /dev/null
 * and every signal at its default. A failed check ends the process. When a test returns, no memory
 * of the library may be left allocated.
 *
 * Written in C99 that is also C++11. */
#ifndef EVLOOP_TEST_H
#define EVLOOP_TEST_H

/* The tests use more of the system than strict C99 shows. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#ifndef _DARWIN_C_SOURCE
#define _DARWIN_C_SOURCE 1
#endif

#include "../evloop.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Tests and checks ------------------------------------------------------------------------ */

#define TEST(name)                                                                                 \
    void test_case_##name(void);                                                                   \
    void test_case_##name(void)

/* Every check evaluates its arguments once; it may be used from any thread. */
#define CHECK(cond) ((cond) ? (void)0 : test_fail(__FILE__, __LINE__, #cond))

/* Integers of any type; the failure prints both values, and the name of an error code. */
#define CHECK_EQ(actual, expected) TEST_COMPARE(actual, 0, expected)
#define CHECK_NE(actual, expected) TEST_COMPARE(actual, 1, expected)
#define CHECK_GE(actual, expected) TEST_COMPARE(actual, 2, expected)
#define CHECK_LE(actual, expected) TEST_COMPARE(actual, 3, expected)
#define CHECK_GT(actual, expected) TEST_COMPARE(actual, 4, expected)
#define CHECK_LT(actual, expected) TEST_COMPARE(actual, 5, expected)

#define CHECK_STR(actual, expected)                                                                \
    test_check_str(__FILE__, __LINE__, #actual, (actual), (expected))
#define CHECK_MEM(actual, expected, size)                                                          \
    test_check_mem(__FILE__, __LINE__, #actual, (actual), (expected), (size_t)(size))
#define CHECK_PTR(actual, expected)                                                                \
    test_check_ptr(__FILE__, __LINE__, #actual, (const void *)(actual), (const void *)(expected))

/* Ends the test here as skipped. */
#define SKIP(reason) test_skip(reason)

#define TEST_COMPARE(actual, op, expected)                                                         \
    test_compare(__FILE__, __LINE__, #actual, op, #expected, (long long)(actual),                  \
                 (long long)(expected))

void test_fail(const char *file, int line, const char *what);
void test_compare(const char *file, int line, const char *actual_text, int op,
                  const char *expected_text, long long actual, long long expected);
void test_check_str(const char *file, int line, const char *text, const char *actual,
                    const char *expected);
void test_check_mem(const char *file, int line, const char *text, const void *actual,
                    const void *expected, size_t size);
void test_check_ptr(const char *file, int line, const char *text, const void *actual,
                    const void *expected);
void test_skip(const char *reason);

/* ---- Time and resources ---------------------------------------------------------------------- */

/* A monotonic clock that is not the library's. */
uint64_t test_ms(void);
uint64_t test_ns(void);

/* Blocks the calling thread. */
void test_sleep_ms(unsigned ms);

/* 1 under a sanitizer, valgrind or an emulator: upper bounds on time do not hold there. */
int test_slow(void);

/* 1 under valgrind, which keeps descriptors and a limit of its own. */
int test_valgrind(void);

/* 1 under qemu's emulation of another processor. */
int test_qemu(void);

/* How many descriptors below 1024 are open. */
int test_open_fds(void);

/* The backend that this run asks for; "" when it leaves the choice to the loop. */
const char *test_backend(void);

/* ---- Memory: the library's allocator, as configured by tests/main.c -------------------------- */

void *test_malloc(size_t size);
void *test_calloc(size_t count, size_t size);
void *test_realloc(void *block, size_t size);
void test_free(void *block);

size_t test_alloc_calls(void); /* successful and failed malloc, calloc and realloc calls so far */
long test_alloc_live(void);    /* blocks that are allocated now */
size_t test_alloc_bytes(void); /* bytes that are allocated now */
size_t test_alloc_peak(void);  /* the highest number of bytes so far */

/* The nth allocation from now on fails (1: the next one), and so do the following ones, `times` in
 * all; -1: every one from then on. nth 0: no more failures. */
void test_alloc_fail(long nth, long times);

/* Turns off the check that nothing is left allocated, for this test. */
void test_allow_leak(void);

/* ---- What the interface does not show ---------------------------------------------------------- */

#if !defined(EVLOOP_NO_DNS)
int test_idna(const char *name, char ascii[256]); /* the form that is looked up; 0 or an error */
#endif

/* ---- Faults: what the system calls of the library answer ------------------------------------- */

/* A name is that of the system call: "recv", "accept", "epoll_wait", ... Several names may be set
 * at once; setting a name again replaces what was set and zeroes its counts. */

/* The nth call from now on (1: the next one) fails with errno `err` and is not made; so do the
 * following ones, `times` in all; -1: every one from then on. nth 0: none fails, but calls are
 * counted. */
void test_fault_set(const char *name, long nth, long times, int err);

/* From now on the call transfers at most `max` bytes; 0: as many as asked. */
void test_short_set(const char *name, size_t max);

/* Forgets all faults and counts. */
void test_fault_clear(void);

/* How many calls were made to fail since the name was set, and how many there were in all. */
long test_fault_hits(const char *name);
long test_fault_calls(const char *name);

/* What evloop.h asks before each call. */
int test_fault(const char *name);
size_t test_short(const char *name, size_t count);

#endif
