/* Needs libgreet.so.1, which needs libdeep.so.1. */
void greet(void);

int main(void) {
  greet();
  return 0;
}
