package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
	"sync"
	"time"
)

// tasks runs functions that depend on each other, as many at once as their dependencies allow, and
// shows what is going on. The first failure ends all of them.
type tasks struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	out    io.Writer
	tty    bool
	start  time.Time

	mu      sync.Mutex
	wg      sync.WaitGroup
	running map[string]time.Time
	shown   time.Time
	drawn   bool
	failed  error
}

type task struct{ done chan struct{} }

func newTasks(parent context.Context, out *os.File) *tasks {
	ctx, cancel := context.WithCancelCause(parent)
	info, err := out.Stat()
	t := &tasks{ctx: ctx, cancel: cancel, out: out, start: time.Now(), shown: time.Now(), running: map[string]time.Time{}}
	t.tty = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	go t.watch()
	return t
}

// quiet marks a task that is not worth a line when it takes less than this.
const quiet = 300 * time.Millisecond

func (t *tasks) run(name string, needs []*task, fn func(context.Context) error) *task {
	done := &task{done: make(chan struct{})}
	t.wg.Add(1)
	go func() {
		defer t.wg.Done()
		for _, n := range needs {
			select {
			case <-n.done:
			case <-t.ctx.Done():
				return
			}
		}
		if t.ctx.Err() != nil {
			return
		}
		begin := time.Now()
		t.mu.Lock()
		t.running[name] = begin
		t.mu.Unlock()
		err := fn(t.ctx)
		t.mu.Lock()
		delete(t.running, name)
		took := time.Since(begin)
		switch {
		case err != nil && t.ctx.Err() != nil: // ended because another failed
		case err != nil:
			t.failed = fmt.Errorf("%s: %w", name, err)
			t.print(fmt.Sprintf("  ✗ %s (%s)", name, seconds(took)))
			t.cancel(t.failed)
		case took >= quiet:
			t.print(fmt.Sprintf("  ✓ %s %s", name, seconds(took)))
		}
		t.mu.Unlock()
		if err == nil {
			close(done.done)
		}
	}()
	return done
}

func (t *tasks) wait() error {
	t.wg.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clear()
	err := t.failed
	if err == nil && t.ctx.Err() != nil {
		err = context.Cause(t.ctx)
	}
	t.cancel(nil)
	return err
}

// watch shows what is running and for how long: on a terminal a line that is redrawn each second,
// elsewhere a line every 20 seconds.
func (t *tasks) watch() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-tick.C:
		}
		t.mu.Lock()
		switch {
		case len(t.running) == 0:
		case t.tty:
			t.clear()
			line := "  … " + t.summary()
			if len(line) > 110 {
				line = line[:107] + "..."
			}
			fmt.Fprint(t.out, line)
			t.drawn = true
		case time.Since(t.shown) >= 20*time.Second:
			t.print("  … " + t.summary())
		}
		t.mu.Unlock()
	}
}

func (t *tasks) summary() string {
	names := make([]string, 0, len(t.running))
	for n := range t.running {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool { return t.running[names[i]].Before(t.running[names[j]]) })
	for i, n := range names {
		names[i] = n + " " + seconds(time.Since(t.running[n]))
	}
	return "[" + seconds(time.Since(t.start)) + "] " + strings.Join(names, ", ")
}

func (t *tasks) clear() {
	if t.drawn {
		fmt.Fprint(t.out, "\r\x1b[K")
		t.drawn = false
	}
}

func (t *tasks) print(line string) {
	t.clear()
	fmt.Fprintln(t.out, line)
	t.shown = time.Now()
}

func seconds(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 100*time.Second:
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
}
