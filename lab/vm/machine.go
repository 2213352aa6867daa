package vm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	// ErrGuest says that the guest did not boot, or ended or hung before its command did. The text has the console's last lines.
	ErrGuest = errors.New("guest failed")
	// ErrClosed is returned by Run on a closed machine.
	ErrClosed = errors.New("machine is closed")
)

const (
	consoleLines = 40               // of the console that an error shows
	endWait      = 10 * time.Second // for an orderly end of the guest
)

// Config says how a guest is booted. The zero value is useful once Parts is set.
type Config struct {
	Parts    *Parts        // from Prepare
	Memory   int           // MiB; 0 = 2048
	CPUs     int           // 0 = 2
	Systemd  bool          // systemd is the guest's first process, with D-Bus and wpa_supplicant as Debian ships them
	BootTime time.Duration // limit for the boot; 0 = 3 minutes, 6 with Systemd
	Console  io.Writer     // copy of what the kernel and the boot print; may be nil
	// Folders of the host that the guest must see at their own paths. Only those below /tmp and /run, which the guest has of its
	// own, need a mount, and are read-only; all others are seen anyway.
	Folders []string
	Trees   []*PreparedTree // from PrepareTree; the guest sees each below TreesFolder
	// Disk is the path of a file that is the guest's disk /dev/vda, once it has loaded virtio_blk; "" = none. What the guest has
	// written to it outlives the guest.
	Disk string
}

// Machine is a running guest. It runs one command at a time. Close ends it.
type Machine struct {
	// Share is a folder of the host that the guest sees, writable, as /run/lab. It is removed by Close.
	Share string

	folder   string
	token    string
	qemu     *exec.Cmd
	exited   chan struct{} // closed when QEMU has ended and exitErr is set
	exitErr  error
	stderr   bytes.Buffer // of QEMU; complete after exited
	control  net.Conn
	output   net.Conn
	size     net.Conn
	terminal net.Conn
	picture  net.Conn // the guest's requests for pictures of its display
	monitor  net.Conn // QEMU's
	console  consoleTail
	work     sync.WaitGroup // reader of the console, taker of pictures, waiter for QEMU

	mu     sync.Mutex // held by Run and Close
	number int        // of the last command
	closed bool
}

// Boot starts a guest and returns when it takes commands. When ctx ends later, the guest goes on; Close ends it.
func Boot(ctx context.Context, c Config) (*Machine, error) {
	limit := c.BootTime
	if limit == 0 {
		limit = 3 * time.Minute
		if c.Systemd {
			limit *= 2
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("guest did not boot within %v", limit))
	defer cancel()
	folder, err := os.MkdirTemp("", "nigh-lab-")
	if err != nil {
		return nil, fmt.Errorf("vm: boot: %w", err)
	}
	m := &Machine{
		Share: filepath.Join(folder, "share"), folder: folder, token: rand.Text(), exited: make(chan struct{}),
		console: consoleTail{copy: c.Console},
	}
	if err := m.start(ctx, c); err != nil {
		m.kill()
		m.work.Wait()
		m.hangUp()
		_ = os.RemoveAll(folder) // why it did not boot says more
		return nil, err
	}
	return m, nil
}

func (m *Machine) start(ctx context.Context, c Config) error {
	c.Folders = hidden(c.Folders)
	if err := m.fillShare(c); err != nil {
		return err
	}
	channels := []struct {
		name string
		conn *net.Conn
	}{{"control", &m.control}, {"output", &m.output}, {"size", &m.size}, {"terminal", &m.terminal}, {"picture", &m.picture},
		{"monitor", &m.monitor}, {"console", &m.console.conn}}
	listeners := make([]net.Listener, len(channels))
	for i, ch := range channels {
		l, err := net.Listen("unix", filepath.Join(m.folder, ch.name))
		if err != nil {
			return fmt.Errorf("vm: boot: %w", err)
		}
		defer func() { _ = l.Close() }() // closed before by watch, if QEMU ended
		listeners[i] = l
	}
	if err := m.startQEMU(arguments(c, m.folder)); err != nil {
		return err
	}
	// QEMU connects to all channels as it starts; should it end, or take too long, no call below may wait for ever.
	stop := context.AfterFunc(ctx, m.kill)
	defer stop()
	accepted := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-m.exited:
			for _, l := range listeners {
				_ = l.Close() // for Accept to return
			}
		case <-accepted:
		}
	})
	var acceptErr error
	for i, ch := range channels {
		if *ch.conn, acceptErr = listeners[i].Accept(); acceptErr != nil {
			break
		}
	}
	close(accepted)
	watch.Wait()
	if acceptErr != nil {
		return m.failure(ctx)
	}
	m.work.Go(m.console.read)
	m.work.Go(m.takePictures)
	line, err := bufio.NewReader(m.control).ReadString('\n')
	if err != nil || line != "ready\n" {
		return m.failure(ctx)
	}
	return nil
}

// fillShare writes what the guest's init and agent read.
func (m *Machine) fillShare(c Config) error {
	files := map[string]string{"agent.sh": string(agentScript), "token": m.token + "\n"}
	for i, path := range c.Folders {
		files["folders"] += fmt.Sprintf("folder%d %s\n", i, path)
	}
	for i, t := range c.Trees {
		files["folders"] += fmt.Sprintf("tree%d %s/%s\n", i, TreesFolder, t.Name)
	}
	if c.Systemd {
		files["systemd/nigh-lab.target"] = labTarget
		files["systemd/nigh-lab.service"] = labService
	}
	for name, content := range files {
		path := filepath.Join(m.Share, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("vm: boot: %w", err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return fmt.Errorf("vm: boot: %w", err)
		}
	}
	return nil
}

// startQEMU starts the emulator so that it dies with this process, however this process ends.
func (m *Machine) startQEMU(args []string) error {
	path, err := lookTool("qemu-system-x86_64")
	if err != nil {
		return err
	}
	m.qemu = exec.Command(path, args...)
	m.qemu.Stdout, m.qemu.Stderr = &m.stderr, &m.stderr
	// Its own process group: an interrupt typed at the terminal is for us, who then end it in order.
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started := make(chan error, 1)
	m.work.Go(func() {
		// The kernel sends the death signal when the thread that started the child ends, so the thread is kept.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := m.qemu.Start()
		started <- err
		if err == nil {
			m.exitErr = m.qemu.Wait()
		}
		close(m.exited)
	})
	if err := <-started; err != nil {
		m.qemu = nil
		return fmt.Errorf("vm: start qemu: %w", err)
	}
	return nil
}

// arguments gives QEMU's command line.
func arguments(c Config, folder string) []string {
	accel, cpu := "tcg,thread=multi", "max"
	if os.Getenv("NIGH_LAB_KVM") == "1" {
		accel, cpu = "kvm", "host"
	}
	memory, cpus := c.Memory, c.CPUs
	if memory == 0 {
		memory = 2048
	}
	if cpus == 0 {
		cpus = 2
	}
	// The check of the timer counts ticks for a moment and panics when an emulated processor on a busy host has had too few.
	line := "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check"
	share := func(tag, path, more string) string {
		return "local,path=" + escape(path) + ",mount_tag=" + tag + ",security_model=none,multidevs=remap" + more
	}
	socket := func(name string) string { return "socket,id=" + name + ",path=" + escape(filepath.Join(folder, name)) }
	args := []string{
		"-accel", accel, "-cpu", cpu, "-m", fmt.Sprint(memory), "-smp", fmt.Sprint(cpus),
		"-nodefaults", "-nic", "none", "-display", "none", "-device", "VGA", "-no-reboot",
		"-kernel", c.Parts.Kernel, "-initrd", c.Parts.Initramfs, "-append", line,
		"-virtfs", share("host", "/", ",readonly=on"),
		"-virtfs", share("guest", c.Parts.Root, ",readonly=on"),
		"-virtfs", share("share", filepath.Join(folder, "share"), ""),
		"-chardev", socket("console"), "-serial", "chardev:console",
		"-device", "virtio-serial-pci",
		"-chardev", socket("terminal"), "-device", "virtconsole,chardev=terminal",
		"-chardev", socket("control"), "-device", "virtserialport,chardev=control,name=nigh.control",
		"-chardev", socket("output"), "-device", "virtserialport,chardev=output,name=nigh.output",
		"-chardev", socket("size"), "-device", "virtserialport,chardev=size,name=nigh.size",
		"-chardev", socket("picture"), "-device", "virtserialport,chardev=picture,name=" + picturePort,
		"-chardev", socket("monitor"), "-mon", "chardev=monitor,mode=control",
	}
	if c.Disk != "" {
		args = append(args, "-drive", "if=virtio,format=raw,cache=writeback,file="+escape(c.Disk))
	}
	for i, path := range c.Folders {
		args = append(args, "-virtfs", share(fmt.Sprintf("folder%d", i), path, ",readonly=on"))
	}
	for i, t := range c.Trees {
		args = append(args, "-virtfs", share(fmt.Sprintf("tree%d", i), t.Folder, ",readonly=on"))
	}
	return args
}

// escape quotes a value in QEMU's lists of options.
func escape(value string) string { return strings.ReplaceAll(value, ",", ",,") }

// hidden gives those of the folders that the guest's own file systems would hide, each once, outer ones first.
func hidden(folders []string) []string {
	var found []string
	for _, path := range folders {
		if strings.HasPrefix(path, "/tmp/") || strings.HasPrefix(path, "/run/") {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// failure waits for the end of a guest that is of no more use and says what is known about it.
func (m *Machine) failure(ctx context.Context) error {
	m.kill()
	<-m.exited
	var b strings.Builder
	if cause := context.Cause(ctx); cause != nil {
		fmt.Fprintf(&b, ": %v", cause)
	}
	if said := strings.TrimSpace(m.stderr.String()); said != "" {
		fmt.Fprintf(&b, ": qemu said: %s", said)
	}
	if tail := m.console.String(); tail != "" {
		fmt.Fprintf(&b, "; the console's last lines:\n%s", tail)
	}
	return fmt.Errorf("vm: %w%s", ErrGuest, b.String())
}

// kill ends QEMU at once. It may be called at any time.
func (m *Machine) kill() {
	if m.qemu != nil {
		// It may have ended by itself.
		_ = m.qemu.Process.Kill()
	}
}

func (m *Machine) hangUp() {
	for _, c := range []net.Conn{m.control, m.output, m.size, m.terminal, m.picture, m.monitor, m.console.conn} {
		if c != nil {
			c.Close()
		}
	}
}

// Close ends the guest and removes what it needed on the host. It waits for a command that runs.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	// The agent sees the end of its control port, and reboots, which ends QEMU.
	m.control.Close()
	patience := time.NewTimer(endWait)
	defer patience.Stop()
	select {
	case <-m.exited:
	case <-patience.C:
		m.kill()
	}
	<-m.exited
	m.hangUp()
	m.work.Wait()
	if err := os.RemoveAll(m.folder); err != nil {
		return fmt.Errorf("vm: close: %w", err)
	}
	return nil
}

// Cut is Close as a power cut would do it: the guest ends at this moment, and what it has in its memory and not yet on its disk is
// lost. A command that runs ends with ErrGuest.
func (m *Machine) Cut() error {
	m.kill()
	return m.Close()
}

// Command is a program to run in the guest as root.
type Command struct {
	Args   []string  // program, looked up in the guest's PATH, and its arguments
	Env    []string  // KEY=VALUE, added to the guest's own
	Dir    string    // "" = /
	Output io.Writer // gets standard output and standard error as they come; nil discards
	// Terminal gives the command the guest's terminal, attached to this process's standard input and output, which must be
	// a terminal. Output is not used then.
	Terminal bool
}

// Run runs a command and returns its exit status: 127 when there is no such program, 128 and more after a signal. When ctx
// ends first, or the guest dies, the guest is gone and the error is ErrGuest.
func (m *Machine) Run(ctx context.Context, c Command) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return 0, fmt.Errorf("vm: run: %w", ErrClosed)
	}
	m.number++
	script, err := c.script()
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(filepath.Join(m.Share, fmt.Sprintf("%d.sh", m.number)), []byte(script), 0o644); err != nil {
		return 0, fmt.Errorf("vm: run: %w", err)
	}
	if c.Terminal {
		return m.runTerminal(ctx)
	}
	if c.Output == nil {
		c.Output = io.Discard
	}
	return m.exchange(ctx, fmt.Sprintf("%d 0 0 0\n", m.number), m.output, c.Output)
}

// exchange asks for a command and copies its output until the marker.
func (m *Machine) exchange(ctx context.Context, request string, from net.Conn, to io.Writer) (int, error) {
	stop := context.AfterFunc(ctx, m.kill)
	defer stop()
	if _, err := io.WriteString(m.control, request); err != nil {
		return 0, m.failure(ctx)
	}
	status, err := copyUntilMarker(to, from, m.token)
	if errors.Is(err, errWrite) {
		m.kill()
		return 0, fmt.Errorf("vm: run: %w", err)
	}
	if err != nil {
		return 0, m.failure(ctx)
	}
	return status, nil
}

// script gives the shell's text for the command.
func (c Command) script() (string, error) {
	if len(c.Args) == 0 {
		return "", errors.New("vm: run: empty command")
	}
	var b strings.Builder
	for _, e := range c.Env {
		key, value, ok := strings.Cut(e, "=")
		if !ok {
			return "", fmt.Errorf("vm: run: environment %q has no =", e)
		}
		fmt.Fprintf(&b, "export %s=%s\n", key, quote(value))
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	fmt.Fprintf(&b, "cd %s || exit 126\nexec", quote(dir))
	for _, a := range c.Args {
		b.WriteString(" " + quote(a))
	}
	b.WriteString("\n")
	return b.String(), nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
