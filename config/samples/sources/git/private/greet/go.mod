module git.whittle.local/samples/private/greet.git

go 1.26
