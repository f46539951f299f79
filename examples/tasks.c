/* cc -O2 -o tasks examples/tasks.c -pthread */

/* tasks - in which order those things run that are to run "soon". As in Node, where
 *
 *     setImmediate(() => console.log('1'));
 *     setTimeout(() => console.log('2'), 0);
 *     Promise.resolve().then(() => console.log('3'));
 *     process.nextTick(() => console.log('4'));
 *
 * prints 4, 3, 2, 1. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>

static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
        exit(EXIT_FAILURE);
    }
}

static void immediate(evl_loop_t *loop, void *arg) {
    (void)loop, (void)arg;
    puts("1   immediate   in the check phase, right after the poll phase");
}

static void timeout(evl_loop_t *loop, void *arg) {
    (void)loop, (void)arg;
    puts("2   timeout     in the timers phase: before the first turn, then at the end of each");
}

static void microtask(evl_loop_t *loop, void *arg) {
    (void)loop, (void)arg;
    puts("3   microtask   after the ticks, but before the loop goes on");
}

static void tick(evl_loop_t *loop, void *arg) {
    (void)loop, (void)arg;
    puts("4   tick        as soon as the code that runs has returned");
}

static void queue_all(evl_loop_t *loop) {
    check(evl_set_immediate(loop, immediate, NULL, NULL), "evl_set_immediate");
    check(evl_set_timeout(loop, 0, timeout, NULL, NULL), "evl_set_timeout");
    check(evl_queue_microtask(loop, microtask, NULL), "evl_queue_microtask");
    check(evl_next_tick(loop, tick, NULL), "evl_next_tick");
}

/* A post runs in the poll phase, as the callbacks of sockets do. From there the check phase comes
 * next and the timers only after it, so now the immediate is first. */
static void in_the_poll_phase(evl_loop_t *loop, void *arg) {
    (void)arg;
    queue_all(loop);
}

int main(void) {
    evl_loop_t loop;
    check(evl_loop_init(&loop), "evl_loop_init");

    puts("Queued in the order 1, 2, 3, 4 before the loop runs:");
    queue_all(&loop);
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");

    puts("\nQueued in the same order by a callback of the poll phase:");
    check(evl_post(&loop, in_the_poll_phase, NULL), "evl_post");
    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");

    check(evl_loop_close(&loop), "evl_loop_close");
    return EXIT_SUCCESS;
}
