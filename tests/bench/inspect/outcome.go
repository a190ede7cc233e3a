package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	// The tree of an image is bounded, and what is known of its files: a third more than a million files take.
	mostMemory = 96 << 20
	mostCPU    = 120 * time.Second
	mostTime   = 10 * time.Minute
	// What `whittle minimize` ends with where it says no. All else is a crash.
	refusal = 2
)

// minimized is what of `whittle minimize --json` is used here.
type minimized struct {
	Kept int `json:"keptFiles"`
	Gone int `json:"goneFiles"`
}

// outcome is what came of one image.
type outcome struct {
	name, said string
	spent      cost
	written    bool
	faults     []string
}

// hostile makes each of these images smaller, prints what came of it, and fails where that is wrong or cost too much.
func hostile(whittle, crane string, names []string) error {
	// All of them first: Linux counts the memory of who starts a program as the program's, too, and what compares images needs much.
	found := make([]outcome, len(names))
	for i, name := range names {
		found[i] = minimize(whittle, name)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "image\twhat came of it\ttime, s\tCPU, s\tpeak memory, MiB")
	var wrong []string
	for _, o := range found {
		faults := append(o.faults, o.check(crane)...)
		said := o.said
		if len(faults) > 0 {
			said = "WRONG, " + said
		}
		fmt.Fprintf(table, "%s\t%s\t%.2f\t%.2f\t%.1f\n", tag(o.name), said, o.spent.wall.Seconds(), o.spent.cpu.Seconds(), float64(o.spent.peak)/(1<<20))
		for _, fault := range faults {
			wrong = append(wrong, tag(o.name)+": "+fault)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return errors.New("not all of it is right:\n  " + strings.Join(wrong, "\n  "))
	}
	return nil
}

func tag(image string) string {
	base := path.Base(image)
	return base[strings.LastIndexByte(base, ':')+1:]
}

// smaller is the name that a smaller image gets.
func smaller(name string) string { return name + "-small" }

// minimize makes one image smaller.
func minimize(whittle, name string) outcome {
	o := outcome{name: name}
	limit, cancel := context.WithTimeout(context.Background(), mostTime)
	defer cancel()
	command := exec.CommandContext(limit, whittle, "minimize", "--json", "--base-layers=1", "--to="+smaller(name), name)
	var printed, complained bytes.Buffer
	command.Stdout, command.Stderr = &printed, &complained
	begun := time.Now()
	err := command.Run()
	o.spent.wall = time.Since(begun)
	state := command.ProcessState
	if state == nil {
		o.said, o.faults = "does not start", []string{err.Error()}
		return o
	}
	o.spent.cpu = state.UserTime() + state.SystemTime()
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		o.spent.peak = usage.Maxrss * 1024
	}
	first, _, _ := strings.Cut(strings.TrimSpace(complained.String()), "\n")
	first = strings.TrimPrefix(first, "whittle: ")
	_, why, unsure := strings.Cut(first, "cannot be made smaller: ")
	var found []minimized
	switch {
	case err != nil && state.ExitCode() != refusal:
		o.said, o.faults = "crashed: "+first, []string{err.Error() + ": " + complained.String()}
	case unsure:
		o.said = "nothing left out: " + why
	case err != nil:
		o.said = "refused: " + first
	case json.Unmarshal(printed.Bytes(), &found) != nil || len(found) != 1:
		o.said, o.faults = "no outcome", []string{"what was printed is no JSON of one platform"}
	default:
		o.said, o.written = fmt.Sprintf("written: %d files kept, %d left out", found[0].Kept, found[0].Gone), true
	}
	return o
}

// check finds out what is wrong with what came of an image: with its cost, and with the smaller image.
func (o outcome) check(crane string) []string {
	var faults []string
	if o.spent.peak > mostMemory {
		faults = append(faults, fmt.Sprintf("more than %d MiB of memory", mostMemory>>20))
	}
	if o.spent.cpu > mostCPU {
		faults = append(faults, fmt.Sprintf("more than %v of CPU", mostCPU))
	}
	if !o.written {
		if exec.Command(crane, "manifest", "--insecure", smaller(o.name)).Run() == nil {
			faults = append(faults, "an image was written all the same")
		}
		return faults
	}
	full, err := flatten(crane, o.name)
	if err != nil {
		return append(faults, "the full image cannot be unpacked, and a smaller one was written: "+err.Error())
	}
	less, err := flatten(crane, smaller(o.name))
	if err != nil {
		return append(faults, "the smaller image cannot be unpacked: "+err.Error())
	}
	return append(faults, differences(full, less)...)
}
