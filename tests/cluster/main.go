// The local cluster: a real Kubernetes on this machine, for trying Whittle out and for its tests.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

const usage = `usage: go run . COMMAND

  up [demo]        bring the cluster up, or find it up, and write .cluster/env; with demo without the base
                   images that only samples and tests use
  down             end it and leave nothing behind but what was built
  status           which components run, and whether the cluster works
  exec CMD ARG...  run a command inside the node
  build NAME...    only build programs, and print the folder that has them
  packages NAME... install the Debian packages that it needs, and these, where they are missing
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("no command was given")
	}
	// A second Ctrl-C ends at once; the next start cleans up.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop)
	switch name, rest := args[0], args[1:]; name {
	case "up":
		checkout, err := findCheckout()
		if err != nil {
			return err
		}
		wanted, err := wantedImages(rest)
		if err != nil {
			return err
		}
		return up(ctx, checkout, wanted)
	case "down":
		return down(ctx)
	case "status":
		return status(ctx)
	case "exec":
		if len(rest) == 0 {
			return errors.New("exec needs a command")
		}
		return enter(rest)
	case "build":
		return buildOnly(ctx, rest)
	case "packages":
		return installPackages(ctx, rest)
	// What the sandbox runs of this same program.
	case "init":
		return runInit()
	case "supervise":
		return supervise()
	case "quiet-sysctls":
		return quietSysctls(rest)
	default:
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("there is no command %q", name)
	}
}

// wantedImages are those that the arguments of `up` ask for.
func wantedImages(args []string) ([]image, error) {
	switch {
	case len(args) == 0:
		return images, nil
	case len(args) == 1 && args[0] == "demo":
		return demoImages, nil
	}
	return nil, fmt.Errorf("up %s: there is only up, and up demo", strings.Join(args, " "))
}

// findCheckout is the repository that this program was started in: it looks upward from here.
func findCheckout() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := here; ; dir = filepath.Dir(dir) {
		if isDir(filepath.Join(dir, "tests/cluster/components")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of Whittle", here)
		}
	}
}

func buildOnly(ctx context.Context, programs []string) error {
	checkout, err := findCheckout()
	if err != nil {
		return err
	}
	b, err := newBuilder(ctx, filepath.Join(checkout, "tests/cluster/components"))
	if err != nil {
		return err
	}
	if len(programs) == 0 {
		programs = allPrograms()
	}
	t := newTasks(ctx, os.Stderr)
	var needs []*task
	done := map[string]bool{}
	for _, p := range programs {
		f, ok := familyOf(p)
		if !ok {
			_, err := b.program(p)
			return err
		}
		if !done[f.name] {
			done[f.name] = true
			needs = []*task{t.run("build "+f.name, needs, func(ctx context.Context) error { return b.build(ctx, f) })}
		}
	}
	if err := t.wait(); err != nil {
		return err
	}
	bin, err := b.binDir()
	if err == nil {
		fmt.Println(bin)
	}
	return err
}
