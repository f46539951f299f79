/* The program's own allocator: every block of the library comes from it and goes back to it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* since a header comes before the implementation */
#endif
#include <stdlib.h>

static long allocator_live;
static long allocator_calls;

static void *allocator_count(void *block) {
    allocator_calls++;
    allocator_live += block != NULL;
    return block;
}

static void *allocator_resize(void *old, size_t size) {
    void *block = realloc(old, size);
    allocator_calls++;
    allocator_live += old == NULL && block != NULL;
    return block;
}

static void allocator_free(void *block) {
    allocator_live -= block != NULL;
    free(block);
}

#define EVLOOP_MALLOC(size)         allocator_count(malloc(size))
#define EVLOOP_CALLOC(count, size)  allocator_count(calloc(count, size))
#define EVLOOP_REALLOC(block, size) allocator_resize(block, size)
#define EVLOOP_FREE(block)          allocator_free(block)
#define EVLOOP_IMPLEMENTATION
#include "../../evloop.h"

static void allocator_on_timer(evl_loop_t *loop, void *arg) {
    (void)loop;
    (void)arg;
}

int main(void) {
    evl_loop_t loop;
    if (evl_loop_init(&loop) != 0)
        return 1;
    for (int i = 0; i < 1000; i++)
        if (evl_set_timeout(&loop, 1, allocator_on_timer, NULL, NULL) != 0)
            return 1;
    if (evl_run(&loop, EVL_RUN_DEFAULT) != 0 || evl_loop_close(&loop) != 0)
        return 1;
    return allocator_calls > 0 && allocator_live == 0 ? 0 : 1;
}
