// Measures `whittle inspect` against `crane export | tar t`, and `whittle minimize` against `whittle inspect`, on the same images of
// the same registry, in turns; and what comes of hostile images. It makes all of them itself. tests/bench/inspect.sh runs it.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"syscall"
	"text/tabwriter"
	"time"
)

const usage = `usage:
  inspect image 15MB|222MB|1GB FOLDER                    write an OCI layout
  inspect compare RUNS WHITTLE CRANE IMAGE...      measure both tools on each image
  inspect minimize RUNS WHITTLE IMAGE...           measure what writing the smaller image costs
  inspect image NAME FOLDER                        write an OCI layout of a hostile image; "inspect hostile" lists them
  inspect hostile WHITTLE CRANE IMAGE...           make hostile images smaller: what comes of each, and whether that is right
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 3 && args[0] == "image" && images[args[1]] != nil:
		return writeImage(args[2], images[args[1]])
	case len(args) == 3 && args[0] == "image" && hostileOf(args[1]) != nil:
		return writeHostile(args[2], hostileOf(args[1]))
	case len(args) == 1 && args[0] == "hostile":
		for _, image := range hostileImages {
			fmt.Println(image.name)
		}
		return nil
	case len(args) > 3 && args[0] == "hostile":
		return hostile(args[1], args[2], args[3:])
	case len(args) > 4 && args[0] == "compare":
		runs, err := strconv.Atoi(args[1])
		if err != nil || runs < 1 {
			return fmt.Errorf("%q is no number of runs", args[1])
		}
		return compare(runs, args[4:], [2]side{
			{"whittle inspect", func(name string) [][]string {
				return [][]string{{args[2], "inspect", "--output=json", name}}
			}},
			{"crane export | tar t", func(name string) [][]string {
				return [][]string{{args[3], "export", "--insecure", name, "-"}, {"tar", "t"}}
			}},
		})
	case len(args) > 3 && args[0] == "minimize":
		runs, err := strconv.Atoi(args[1])
		if err != nil || runs < 1 {
			return fmt.Errorf("%q is no number of runs", args[1])
		}
		return compare(runs, args[3:], [2]side{
			{"whittle minimize --to", func(name string) [][]string {
				return [][]string{{args[2], "minimize", "--json", "--base-layers=2", "--to=" + name + "-small", name}}
			}},
			{"whittle inspect", func(name string) [][]string {
				return [][]string{{args[2], "inspect", "--output=json", name}}
			}},
		})
	}
	fmt.Fprint(os.Stderr, usage)
	return errors.New("no such command")
}

// cost is what one run took.
type cost struct {
	wall, cpu time.Duration
	peak      int64 // bytes of memory, resident, of the largest of its processes
}

// measure runs a pipeline to its end.
func measure(pipeline ...[]string) (cost, error) {
	commands := make([]*exec.Cmd, len(pipeline))
	var input io.Reader
	for i, args := range pipeline {
		command := exec.Command(args[0], args[1:]...)
		command.Stdin, command.Stderr = input, os.Stderr
		if i+1 < len(pipeline) {
			// A pipe between the two processes, with nobody of ours in between.
			reader, writer, err := os.Pipe()
			if err != nil {
				return cost{}, err
			}
			defer reader.Close()
			defer writer.Close()
			command.Stdout, input = writer, reader
		}
		commands[i] = command
	}
	begun := time.Now()
	for _, command := range commands {
		if err := command.Start(); err != nil {
			return cost{}, err
		}
		if writer, ok := command.Stdout.(*os.File); ok {
			writer.Close()
		}
	}
	var total cost
	for _, command := range commands {
		if err := command.Wait(); err != nil {
			return cost{}, fmt.Errorf("%v: %w", command.Args, err)
		}
		state := command.ProcessState
		total.cpu += state.UserTime() + state.SystemTime()
		if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
			total.peak = max(total.peak, usage.Maxrss*1024)
		}
	}
	total.wall = time.Since(begun)
	return total, nil
}

// side is one of two that are compared: its name, and what is run for an image.
type side struct {
	name     string
	pipeline func(image string) [][]string
}

func compare(runs int, names []string, sides [2]side) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "image\truns\t\t%s\t%s\tratio\t\n", sides[0].name, sides[1].name)
	for _, name := range names {
		var costs [2][]cost
		// One more than is counted: the first warms the page cache.
		for run := range runs + 1 {
			for i, side := range sides {
				found, err := measure(side.pipeline(name)...)
				if err != nil {
					return err
				}
				if run > 0 {
					costs[i] = append(costs[i], found)
				}
			}
		}
		for _, what := range []struct {
			name, unit string
			of         func(cost) float64
		}{
			{"time", "s", func(c cost) float64 { return c.wall.Seconds() }},
			{"CPU", "s", func(c cost) float64 { return c.cpu.Seconds() }},
			{"peak memory", "MiB", func(c cost) float64 { return float64(c.peak) / (1 << 20) }},
		} {
			a, b := figures(costs[0], what.of), figures(costs[1], what.of)
			fmt.Fprintf(table, "%s\t%d\t%s, %s\t%s\t%s\t%.2f\t\n", path.Base(name), runs, what.name, what.unit, a, b, a.median/b.median)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Println("\nEach figure: median (minimum to maximum), the two in turns. Memory: of the larger process of each.")
	return nil
}

type figure struct{ median, least, most float64 }

func figures(costs []cost, of func(cost) float64) figure {
	values := make([]float64, len(costs))
	for i, c := range costs {
		values[i] = of(c)
	}
	slices.Sort(values)
	return figure{values[len(values)/2], values[0], values[len(values)-1]}
}

func (f figure) String() string { return fmt.Sprintf("%.2f (%.2f to %.2f)", f.median, f.least, f.most) }
