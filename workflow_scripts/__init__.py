"""Programs of the rules: arguments in, a call of the library, files out; ``calandria`` is what people import."""
