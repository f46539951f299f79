/* With static_other.c: two files of one program, each with an implementation of its own. */
#define EVLOOP_STATIC
#include "../../evloop.h"

int static_other(void);

int main(void) {
    evl_loop_t loop;
    return evl_loop_init(&loop) == 0 && evl_loop_close(&loop) == 0 ? static_other() : 1;
}
