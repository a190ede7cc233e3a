#include <stdio.h>

void future(void);

int main(void) {
  future();
  puts("it ran");
  return 0;
}
