const char *deep(void) { return "it ran"; }
