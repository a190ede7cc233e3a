// A package that only those with a token may read.
exports.hello = (name) => `hello ${name}, from a private package`;
