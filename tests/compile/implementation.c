/* The one file of a program that holds the implementation. */
#define EVLOOP_IMPLEMENTATION
#include "../../evloop.h"
