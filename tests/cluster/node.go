package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// hostMountPoints are folders outside the state folder that components insist on. They are made if
// they are lacking, and inside the sandbox our own folders are mounted over them.
var hostMountPoints = []string{"/var/lib/cni", "/var/lib/kubelet", "/var/log/pods", "/var/log/containers"}

// runInit is the sandbox's first process: it starts the supervisor and reaps every orphan. When the
// supervisor ends, so does the sandbox.
func runInit() error {
	var byteRead [1]byte
	hold := os.NewFile(3, "hold")
	if n, err := hold.Read(byteRead[:]); n != 1 {
		return fmt.Errorf("nobody let the sandbox start: %v", err)
	}
	hold.Close()
	if err := prepareMounts(); err != nil {
		return fmt.Errorf("preparing the sandbox's mounts: %w", err)
	}
	files := []*os.File{os.Stdin, os.Stdout, os.Stderr}
	for i := range hostForwards {
		files = append(files, os.NewFile(uintptr(4+i), "listener"))
	}
	supervisor, err := os.StartProcess("/proc/self/exe", []string{"whittle-cluster", "supervise"},
		&os.ProcAttr{Dir: "/", Env: os.Environ(), Files: files})
	if err != nil {
		return err
	}
	for _, f := range files[3:] {
		f.Close()
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	pid := supervisor.Pid
	go func() {
		for range stop {
			syscall.Kill(pid, syscall.SIGTERM)
		}
	}()
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if ended == pid {
			return nil
		}
	}
}

// prepareMounts gives the sandbox its own /proc, /run and name files. Nothing of it is seen outside.
func prepareMounts() error {
	mount := func(source, target, kind string, flags uintptr, data string) error {
		if err := syscall.Mount(source, target, kind, flags, data); err != nil {
			return fmt.Errorf("%s on %s: %w", source, target, err)
		}
		return nil
	}
	if err := mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	// Shared again, among the sandbox's own mount namespaces: the kubelet's volumes must reach the
	// containers.
	if err := mount("none", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	resolv, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		resolv = "/etc/resolv.conf"
	}
	if err := mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	if strings.HasPrefix(resolv, "/run/") { // it went with the host's /run
		if err := os.MkdirAll(filepath.Dir(resolv), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(resolv, nil, 0o644); err != nil {
			return err
		}
	}
	for file, target := range map[string]string{"resolv.conf": resolv, "hosts": "/etc/hosts"} {
		if err := mount(state(file), target, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	for _, dir := range hostMountPoints {
		ours := state("over", strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-"))
		if err := os.MkdirAll(ours, 0o755); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := mount(ours, dir, "", syscall.MS_BIND, ""); err != nil {
			return err
		}
	}
	return syscall.Sethostname([]byte(nodeName))
}

// prepareNetwork makes the node's network. There is no default route: nothing in the sandbox can
// reach anything outside it, and nothing outside reaches it but by the handed-over sockets.
func prepareNetwork() error {
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join([]string{
		"link set lo up",
		"link add " + bridge + " type bridge",
		"address add " + nodePrefix + " dev " + bridge,
		"address add " + metadataIP + "/32 dev lo",
		"address add " + outsideIP + "/32 dev lo",
		"link set " + bridge + " up",
		// Service addresses need some route, or the kernel refuses a connection before kube-proxy's
		// rules have turned it elsewhere. The bridge has no port: what is not turned ends there.
		"route add " + serviceCIDR + " dev " + bridge,
		"route add unreachable " + podCIDR,
	}, "\n"))
	if err := runQuietly(cmd); err != nil {
		return fmt.Errorf("making the node's network: %w", err)
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

// component is one program that the supervisor keeps running.
type component struct {
	name  string
	argv  []string
	env   []string
	needs []string // components that must be ready first
	ready func(context.Context) error
	// later: its program may come when the cluster is already up.
	later bool
	// privateMounts runs it in a mount namespace of its own, through `quiet-sysctls`.
	privateMounts bool
}

// supervisor keeps the components running, each with its own log.
type supervisor struct {
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	status map[string]componentStatus
	ready  map[string]chan struct{}
	procs  map[string]*runningProcess
}

type componentStatus struct {
	State    string `json:"state"` // waiting, starting, ready
	Restarts int    `json:"restarts"`
	Error    string `json:"error,omitempty"`
}

type runningProcess struct {
	cmd     *exec.Cmd
	stopped chan struct{}
}

func statusFile() string { return state("status.json") }

func (s *supervisor) set(name string, change func(*componentStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.status[name]
	change(&st)
	s.status[name] = st
	if data, err := json.Marshal(s.status); err == nil {
		writeFileAtomic(statusFile(), data, 0o644)
	}
}

func supervise() error {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	if err := prepareNetwork(); err != nil {
		return err
	}
	if err := prepareCgroups(); err != nil {
		return err
	}
	for i, f := range hostForwards {
		if err := forward(os.NewFile(uintptr(3+i), f.name), f.target); err != nil {
			return err
		}
	}
	if err := serveGit(); err != nil {
		return err
	}
	if err := serveModules(); err != nil {
		return err
	}
	if err := serveStandIns(); err != nil {
		return err
	}
	s := &supervisor{status: map[string]componentStatus{}, ready: map[string]chan struct{}{}, procs: map[string]*runningProcess{}}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	all := nodeComponents()
	for _, c := range all {
		s.ready[c.name] = make(chan struct{})
		s.set(c.name, func(st *componentStatus) { st.State = "waiting" })
	}
	for _, c := range all {
		go s.keep(c)
	}
	go s.provision()
	<-ctx.Done()
	s.stop()
	return nil
}

// keep runs a component for as long as the cluster runs, and starts it again when it ends.
func (s *supervisor) keep(c component) {
	for _, n := range c.needs {
		select {
		case <-s.ready[n]:
		case <-s.ctx.Done():
			return
		}
	}
	for _, err := os.Stat(c.argv[0]); c.later && err != nil && s.ctx.Err() == nil; _, err = os.Stat(c.argv[0]) {
		select {
		case <-time.After(time.Second):
		case <-s.ctx.Done():
		}
	}
	var once sync.Once
	for attempt := 0; s.ctx.Err() == nil; attempt++ {
		s.set(c.name, func(st *componentStatus) { st.State, st.Restarts = "starting", attempt })
		began := time.Now()
		running, err := s.launch(c)
		if err == nil {
			checkCtx, cancel := context.WithCancel(s.ctx)
			go func() {
				select {
				case <-running.stopped:
					cancel()
				case <-checkCtx.Done():
				}
			}()
			if c.ready == nil || pollUntil(checkCtx, 10*time.Minute, func() error { return c.ready(checkCtx) }) == nil {
				s.set(c.name, func(st *componentStatus) { st.State, st.Error = "ready", "" })
				once.Do(func() { close(s.ready[c.name]) })
			}
			<-running.stopped
			cancel()
			err = fmt.Errorf("ended: %s", running.cmd.ProcessState)
		}
		if s.ctx.Err() != nil {
			return
		}
		fmt.Fprintf(os.Stderr, "%s %s %v\n", time.Now().Format(time.RFC3339), c.name, err)
		s.set(c.name, func(st *componentStatus) { st.State, st.Error = "starting", err.Error() })
		// At once the first time; slower if it ends again and again.
		pause := min(time.Duration(attempt)*500*time.Millisecond, 5*time.Second)
		if time.Since(began) > time.Minute {
			pause, attempt = 0, 0
		}
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
		}
	}
}

func (s *supervisor) launch(c component) (*runningProcess, error) {
	log, err := os.OpenFile(logPath(c.name), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	argv := c.argv
	attr := &syscall.SysProcAttr{Setsid: true}
	if c.privateMounts {
		argv = append([]string{"/proc/self/exe", "quiet-sysctls"}, argv...)
		attr.Cloneflags = syscall.CLONE_NEWNS
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.SysProcAttr = "/", attr
	cmd.Env = append([]string{"PATH=" + state("bin") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, c.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	goFirst(cmd.Process.Pid)
	running := &runningProcess{cmd: cmd, stopped: make(chan struct{})}
	s.mu.Lock()
	s.procs[c.name] = running
	s.mu.Unlock()
	go func() {
		cmd.Wait()
		close(running.stopped)
	}()
	return running, nil
}

// goFirst lets a component of the cluster run before Pods and before whatever else the machine does: a control plane that does not
// answer for ten seconds ends whoever holds a Lease. Each is a session of its own, and where the kernel weighs sessions
// (sched_autogroup), their niceness says nothing beyond them; that of the session does.
func goFirst(pid int) {
	session := fmt.Sprintf("/proc/%d/autogroup", pid)
	if os.WriteFile(session, []byte(niceness), 0o644) != nil {
		// A kernel without them: threads that begin later inherit it.
		n, _ := strconv.Atoi(niceness)
		syscall.Setpriority(syscall.PRIO_PROCESS, pid, n)
	}
}

// stop ends everything in order. First the kubelet, which would start Pods again; then the Pods; the
// API server before etcd, which it holds on to.
func (s *supervisor) stop() {
	s.cancel()
	s.end("kubelet", 3*time.Second)
	endPods(2 * time.Second)
	for _, name := range []string{"netpol", "kube-proxy", "kube-scheduler", "kube-controller-manager", "containerd", "kube-apiserver", "registry", "etcd"} {
		s.end(name, 3*time.Second)
	}
}

func (s *supervisor) end(name string, grace time.Duration) {
	s.mu.Lock()
	running := s.procs[name]
	s.mu.Unlock()
	if running == nil {
		return
	}
	running.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-running.stopped:
		return
	case <-time.After(grace):
	}
	running.cmd.Process.Kill()
	<-running.stopped
}

// endPods ends every process of every Pod: those in our control groups.
func endPods(grace time.Duration) {
	signalAll := func(sig syscall.Signal) (left int) {
		seen := map[int]bool{}
		for _, root := range controlGroups() {
			for _, pid := range cgroupProcesses(root) {
				if !seen[pid] {
					seen[pid] = true
					syscall.Kill(pid, sig)
				}
			}
		}
		return len(seen)
	}
	if signalAll(syscall.SIGTERM) == 0 {
		return
	}
	for deadline := time.Now().Add(grace); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if signalAll(0) == 0 {
			return
		}
	}
	signalAll(syscall.SIGKILL)
}

// unifiedCgroups tells cgroup v2 from v1.
func unifiedCgroups() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// A control group that nobody weighs counts as one process: beside a compiler, all Pods together would get as much of the machine
// as it, and each of them a small share of that. These are eight times as much.
const (
	cpuShares = "8192" // cgroup v1, of 1024
	cpuWeight = "800"  // cgroup v2, of 100
	// Of the cluster's own components: a little more than that.
	niceness = "-10"
)

// prepareCgroups makes the control groups that all Pods live under, so that what a crash leaves is
// known to be ours.
func prepareCgroups() error {
	if unifiedCgroups() {
		for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/" + cgroupRoot} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			control := filepath.Join(dir, "cgroup.subtree_control")
			for _, c := range []string{"cpu", "cpuset", "memory", "pids"} { // what the kubelet insists on
				if err := os.WriteFile(control, []byte("+"+c), 0o644); err != nil {
					return fmt.Errorf("enabling %s in %s: %w; next: in a container, move its processes out of the root control group first", c, control, err)
				}
			}
			for _, c := range []string{"io", "hugetlb"} { // what it uses if it can
				os.WriteFile(control, []byte("+"+c), 0o644)
			}
		}
		return os.WriteFile("/sys/fs/cgroup/"+cgroupRoot+"/cpu.weight", []byte(cpuWeight), 0o644)
	}
	hierarchies, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		dir := filepath.Dir(h)
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			continue // the v2 hierarchy beside the v1 ones: unused
		}
		ours := filepath.Join(dir, cgroupRoot)
		if err := os.MkdirAll(ours, 0o755); err != nil {
			return err
		}
		// A new cpuset is empty, and nothing can live in it.
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				if err := os.WriteFile(filepath.Join(ours, name), data, 0o644); err != nil {
					return err
				}
			}
		}
		shares := filepath.Join(ours, "cpu.shares")
		if _, err := os.Stat(shares); err == nil {
			if err := os.WriteFile(shares, []byte(cpuShares), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// quietSysctls runs the kubelet with copies of the kernel settings that it insists on changing: they
// are the whole machine's, and a test cluster has no business with them.
func quietSysctls(argv []string) error {
	if err := syscall.Mount("none", "/proc", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making /proc private: %w", err)
	}
	for _, name := range []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"} {
		real := filepath.Join("/proc/sys", name)
		data, err := os.ReadFile(real)
		if err != nil {
			continue
		}
		copied := filepath.Join("/run/sysctls", strings.ReplaceAll(name, "/", "."))
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(copied, data, 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(copied, real, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("covering %s: %w", real, err)
		}
	}
	return syscall.Exec(argv[0], argv, os.Environ())
}

// forward accepts on a socket of the host's loopback and connects inside the sandbox.
func forward(file *os.File, target string) error {
	l, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("%s: %w", file.Name(), err)
	}
	file.Close()
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				time.Sleep(100 * time.Millisecond)
				continue
			}
			go func() {
				defer in.Close()
				out, err := net.DialTimeout("tcp", target, 5*time.Second)
				if err != nil {
					return
				}
				defer out.Close()
				done := make(chan struct{}, 2)
				pipe := func(to, from net.Conn) {
					io.Copy(to, from)
					to.(*net.TCPConn).CloseWrite()
					done <- struct{}{}
				}
				go pipe(out, in)
				go pipe(in, out)
				<-done
				<-done
			}()
		}
	}()
	return nil
}
