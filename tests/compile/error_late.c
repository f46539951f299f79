/* Must not compile as strict C99: the first header has already decided what the system shows. */
#include <stdio.h>

#define EVLOOP_IMPLEMENTATION
#include "../../evloop.h"
