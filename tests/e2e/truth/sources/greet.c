#include <stdio.h>

#ifdef DEEP
const char *deep(void);
#else
static const char *deep(void) { return "it ran"; }
#endif

void greet(void) {
  puts(deep());
  fflush(stdout);
}
