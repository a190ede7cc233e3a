/* A function that libm of some later glibc will have. */
void future(void) {}
