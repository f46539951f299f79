/* Everything static and nothing used: no warning. */
#define EVLOOP_STATIC
#include "../../evloop.h"

int main(void) {
    return 0;
}
