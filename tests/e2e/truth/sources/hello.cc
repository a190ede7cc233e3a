#include <iostream>

int main() {
  std::cout << "it ran" << std::endl;
  return 0;
}
