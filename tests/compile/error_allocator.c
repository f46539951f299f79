/* Must not compile: some of the allocator macros, but not all. */
#define EVLOOP_MALLOC(size) malloc(size)
#define EVLOOP_FREE(block)  free(block)
#define EVLOOP_IMPLEMENTATION
#include "../../evloop.h"
