/* cc -O2 -o hello examples/hello.c -pthread */

/* hello - a timer that greets three times: the least that a program with a loop consists of. */

#define EVLOOP_IMPLEMENTATION
#include "../evloop.h"

#include <stdio.h>
#include <stdlib.h>

/* Every call that can fail returns a code below 0 then. */
static void check(int result, const char *what) {
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, evl_strerror(result));
        exit(EXIT_FAILURE);
    }
}

static void on_timer(evl_timer_t *timer) {
    int *left = (int *)timer->data;
    puts("hello");
    if (--*left == 0)
        evl_close((evl_handle_t *)timer, NULL); /* nothing is left to wait for: evl_run returns */
}

int main(void) {
    evl_loop_t loop;
    evl_timer_t timer;
    int left = 3;

    check(evl_loop_init(&loop), "evl_loop_init");
    check(evl_timer_init(&loop, &timer), "evl_timer_init");
    timer.data = &left;
    check(evl_timer_start(&timer, on_timer, 0, 250), "evl_timer_start"); /* 0, 250, 500 ms */

    check(evl_run(&loop, EVL_RUN_DEFAULT), "evl_run");
    check(evl_loop_close(&loop), "evl_loop_close");
    return EXIT_SUCCESS;
}
