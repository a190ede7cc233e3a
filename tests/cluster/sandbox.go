package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The whole cluster lives in a sandbox: new PID, mount, network, IPC and UTS namespaces. When its
// first process ends, for whatever reason, the kernel ends every process in it, and its mounts and
// network go with them. So there is one thing to find, and one thing to kill.

// initRecord tells which process is the sandbox's first. The start time guards against a process
// number that was used again after a crash or a reboot.
type initRecord struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

func initFile() string { return state("init.json") }

func bootID() string {
	data, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data))
}

// processStart is when a process started, in clock ticks since boot; ok is false if it is gone or a
// zombie that nobody has reaped.
func processStart(pid int) (start uint64, ok bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	return parseStat(string(data))
}

// parseStat reads the state and start time; the name before them may hold spaces and parentheses.
func parseStat(stat string) (uint64, bool) {
	end := strings.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, false
	}
	fields := strings.Fields(stat[end+1:])
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	return start, err == nil
}

// sandbox is a handle on a running sandbox's first process.
type sandbox struct {
	record  initRecord
	process *os.Process
}

// findSandbox returns the running sandbox of this machine, or nil.
func findSandbox() *sandbox {
	data, err := os.ReadFile(initFile())
	if err != nil {
		return nil
	}
	var r initRecord
	if json.Unmarshal(data, &r) != nil || r.PID <= 1 || r.Boot != bootID() {
		return nil
	}
	// The handle first, then the check: the handle stays with the process that was checked.
	p, err := os.FindProcess(r.PID)
	if err != nil {
		return nil
	}
	s := &sandbox{record: r, process: p}
	if !s.alive() {
		return nil
	}
	return s
}

func (s *sandbox) alive() bool {
	start, ok := processStart(s.record.PID)
	return ok && start == s.record.Start
}

// end asks the sandbox to stop its components in order, then ends it.
func (s *sandbox) end(grace time.Duration) error {
	if grace > 0 && s.alive() {
		s.process.Signal(syscall.SIGTERM)
		s.waitGone(grace)
	}
	if s.alive() {
		s.process.Kill()
		s.waitGone(30 * time.Second)
	}
	if s.alive() {
		return fmt.Errorf("process %d, the sandbox's first, does not end; next: look at /proc/%d/stack", s.record.PID, s.record.PID)
	}
	return nil
}

func (s *sandbox) waitGone(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for s.alive() && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
}

// startSandbox starts the sandbox. Its listening sockets on the host's loopback are opened here and
// handed over: a socket stays in the network namespace that it was made in.
func startSandbox() (*sandbox, error) {
	var files []*os.File
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	for _, f := range hostForwards {
		l, err := net.Listen("tcp", f.listen)
		if err != nil {
			return nil, fmt.Errorf("the %s needs %s, which something else holds: %w", f.name, f.listen, err)
		}
		file, err := l.(*net.TCPListener).File()
		l.Close()
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	// The first process waits for a byte on this pipe: it does nothing before it is on record, and
	// ends if this program ends first.
	hold, release, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer hold.Close()
	defer release.Close()
	log, err := os.OpenFile(logPath("supervisor"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", "init")
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/root", "XDG_CACHE_HOME=" + filepath.Dir(cacheDir())}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = append([]*os.File{hold}, files...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true, // Ctrl-C in the terminal is for `up`, not for the cluster
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the sandbox: %w (it needs root, and a kernel with namespaces)", err)
	}
	go cmd.Wait() // reaps it if it ends while this program runs
	start, ok := processStart(cmd.Process.Pid)
	if !ok {
		return nil, fmt.Errorf("the sandbox ended at once; its log: %s", logPath("supervisor"))
	}
	record := initRecord{PID: cmd.Process.Pid, Start: start, Boot: bootID()}
	data, err := json.Marshal(record)
	if err != nil {
		return nil, err
	}
	if err := writeFileAtomic(initFile(), data, 0o644); err != nil {
		return nil, err
	}
	if _, err := release.Write([]byte{1}); err != nil {
		return nil, err
	}
	return &sandbox{record: record, process: cmd.Process}, nil
}

// cleanUp removes whatever a cluster left, running or not, and only what is its own: the sandbox by
// its recorded process, control groups under our root, mounts under our folder, our routes.
func cleanUp(grace time.Duration) error {
	if s := findSandbox(); s != nil {
		if err := s.end(grace); err != nil {
			return err
		}
	}
	return errors.Join(removeCgroups(), removeMounts(), removeState(), guardRoutes(false))
}

// controlGroups are our control groups in every hierarchy: one on cgroup v2, one a controller on v1.
func controlGroups() []string {
	pattern := "/sys/fs/cgroup/*/" + cgroupRoot
	if unifiedCgroups() {
		pattern = "/sys/fs/cgroup/" + cgroupRoot
	}
	found, _ := filepath.Glob(pattern)
	return found
}

func cgroupProcesses(root string) []int {
	var pids []int
	filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && d.Name() == "cgroup.procs" {
			data, _ := os.ReadFile(p)
			for _, f := range strings.Fields(string(data)) {
				if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
					pids = append(pids, pid)
				}
			}
		}
		return nil
	})
	return pids
}

func removeCgroups() error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		var left []string
		for _, root := range controlGroups() {
			// A process in our control group is ours. There is none once the sandbox has ended, except
			// if someone killed its first process in a way that the kernel has not finished with.
			for _, pid := range cgroupProcesses(root) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			var dirs []string
			filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, p)
				}
				return nil
			})
			for i := len(dirs) - 1; i >= 0; i-- { // children before their parents
				if err := syscall.Rmdir(dirs[i]); err != nil && !errors.Is(err, syscall.ENOENT) {
					left = append(left, fmt.Sprintf("%s: %v", dirs[i], err))
				}
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("control groups that do not go: %s", strings.Join(left, "; "))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// removeMounts unmounts what is mounted under our folder on the host. The sandbox's own mounts are
// never visible here; this is for the state folder's safety, before it is removed.
func removeMounts() error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer file.Close()
	var mounts []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], stateDir+"/") {
			mounts = append(mounts, fields[4])
		}
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if err := syscall.Unmount(mounts[i], syscall.MNT_DETACH); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("unmounting %s: %w", mounts[i], err)
		}
	}
	return nil
}

func removeState() error {
	if err := os.RemoveAll(stateDir); err != nil {
		return fmt.Errorf("removing %s: %w", stateDir, err)
	}
	for _, dir := range hostMountPoints {
		// Made by us if they were lacking; a folder with something in it is someone else's and stays.
		syscall.Rmdir(dir)
	}
	return nil
}

// routeProtocol marks our routes, so that only ours are ever removed.
const routeProtocol = "186"

// guardRoutes adds or removes the host's unreachable routes for the cluster's addresses. Their high
// metric lets a real route for the same addresses win.
func guardRoutes(on bool) error {
	if _, err := exec.LookPath("ip"); err != nil {
		return nil // without iproute2 there was never a cluster here
	}
	for _, cidr := range guardedCIDRs {
		args := []string{"route", "replace", "unreachable", cidr, "proto", routeProtocol, "metric", "4096"}
		if !on {
			args[1] = "del"
		}
		out, err := exec.Command("ip", args...).CombinedOutput()
		if err != nil && (on || !strings.Contains(string(out), "No such process")) {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// foreignAddresses complains if the host itself uses the cluster's addresses.
func foreignAddresses() error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, cidr := range guardedCIDRs {
		_, ours, err := net.ParseCIDR(cidr)
		if err != nil {
			return err
		}
		for _, a := range addresses {
			if n, ok := a.(*net.IPNet); ok && (ours.Contains(n.IP) || n.Contains(ours.IP)) {
				return fmt.Errorf("this machine has the address %s, which the cluster's %s needs; next: change the addresses in tests/cluster/config.go", n, cidr)
			}
		}
	}
	return nil
}

// enter replaces this process by a command inside the sandbox.
func enter(argv []string) error {
	s := findSandbox()
	if s == nil {
		return errors.New("no cluster is running; next: make cluster")
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return err
	}
	args := append([]string{"nsenter", "-t", strconv.Itoa(s.record.PID), "-m", "-u", "-i", "-n", "-p", "--"}, argv...)
	env := append(os.Environ(), "PATH="+state("bin")+":"+os.Getenv("PATH"), "CONTAINERD_ADDRESS="+containerdSocket)
	return syscall.Exec(nsenter, args, env)
}

// pollUntil calls check until it returns nil or time is up; the last error then says why.
func pollUntil(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not after %s: %w", limit, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
