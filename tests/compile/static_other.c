/* See static_pair.c. */
#define EVLOOP_STATIC
#include "../../evloop.h"

int static_other(void);

int static_other(void) {
    evl_loop_t *loop = evl_default_loop();
    int result = loop != NULL ? evl_run(loop, EVL_RUN_NOWAIT) : 1;
    return result == 0 ? evl_loop_close(loop) : result;
}
