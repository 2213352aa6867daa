package radio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"nigh/lab"
)

// systemBus is the address of the guest's own bus when systemd runs it.
const systemBus = "unix:path=/run/dbus/system_bus_socket"

// socketFolder is where Debian's service has its control sockets, and controlSockets how it is told.
const (
	socketFolder   = "/run/wpa_supplicant"
	controlSockets = "DIR=" + socketFolder + " GROUP=netdev"
)

// ownSockets runs a program with a node's own folder of control sockets, in the mount namespace that ip-netns(8) has made for
// it. All nodes have the guest's /run, and wpa_supplicants on different machines make sockets of the same name.
// The guest's own removes the folder with its last interface.
const ownSockets = `mkdir -p ` + socketFolder + ` && mount --bind "$0" ` + socketFolder + ` && exec "$@"`

// busConfig lets everybody on a node's bus do everything: what the shipped policy allows is tested on the system bus. The
// listen element is needed even when an address is given on the command line.
const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true"/>
    <allow receive_type="method_call"/>
    <allow receive_type="signal"/>
    <allow receive_requested_reply="true"/>
  </policy>
</busconfig>
`

// Node is one machine with a radio.
type Node struct {
	Name   string  // n0, n1, ...
	NetNS  string  // name of its network namespace for ip-netns(8); "" = the guest's own
	Bus    string  // address of its D-Bus bus
	Radio          // its only or first
	Radios []Radio // all of them, in the order in which wpa_supplicant has them

	tree    string // that wpa_supplicant is from; "" = the guest's own
	folder  string
	plain   bool       // its wpa_supplicant has no use of P2P
	system  bool       // node 0 of a bed with systemd
	made    bool       // the namespace exists
	manager bool       // NetworkManager was started
	tb      testing.TB // set by Nodes

	bus         *process
	mu          sync.Mutex   // guards what follows
	supplicant  *process     // nil when it does not run
	accessPoint *AccessPoint // nil when there never was one
}

// process is a child and its end.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed after Wait
}

func start(cmd *exec.Cmd) (*process, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		// Ended by kill: its status says nothing. The goroutine ends with the process, which kill waits for.
		_ = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// kill ends the process at once and waits for its end.
func (p *process) kill() {
	// It may have ended already.
	_ = p.cmd.Process.Kill()
	<-p.exited
}

func (n *Node) up(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyWait, fmt.Errorf("not up within %v", readyWait))
	defer cancel()
	if err := os.Mkdir(n.folder, 0o755); err != nil {
		return err
	}
	if n.system {
		// One that an earlier bed of this guest had still has that bed's interfaces, which nobody has any more: it says that it
		// controls a new one of the same name, and starts no group on it.
		if err := run(ctx, "systemctl", "restart", "wpa_supplicant.service"); err != nil {
			return err
		}
		return n.awaitSupplicant(ctx, "")
	}
	for _, folder := range []string{n.sockets(), socketFolder} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := run(ctx, "ip", "netns", "add", n.NetNS); err != nil {
		return err
	}
	n.made = true
	for _, r := range n.Radios {
		if err := run(ctx, "iw", "phy", r.Phy, "set", "netns", "name", n.NetNS); err != nil {
			return err
		}
	}
	if err := run(ctx, "ip", "-n", n.NetNS, "link", "set", "lo", "up"); err != nil {
		return err
	}
	if err := n.startBus(); err != nil {
		return err
	}
	return n.startSupplicant(ctx)
}

// startBus returns when the bus listens.
func (n *Node) startBus() error {
	config := filepath.Join(n.folder, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, n.Bus), 0o644); err != nil {
		return err
	}
	ready, child, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	log, err := os.Create(filepath.Join(n.folder, "bus.log"))
	if err != nil {
		child.Close()
		return err
	}
	defer log.Close()
	cmd := exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile", "--print-address=3")
	cmd.ExtraFiles = []*os.File{child}
	cmd.Stdout, cmd.Stderr = log, log
	n.bus, err = start(cmd)
	child.Close()
	if err != nil {
		return fmt.Errorf("start bus: %w", err)
	}
	// It prints its address once it listens, and its end closes the pipe.
	if m, err := ready.Read(make([]byte, 1)); m == 0 || err != nil {
		n.bus.kill()
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("start bus: %s", bytes.TrimSpace(said))
	}
	return nil
}

// SupplicantLog is the path of what wpa_supplicant has printed since the node was made.
func (n *Node) SupplicantLog() string { return filepath.Join(n.folder, "wpa_supplicant.log") }

func (n *Node) startSupplicant(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.supplicant != nil {
		return errors.New("wpa_supplicant runs already")
	}
	log, err := os.OpenFile(n.SupplicantLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	// As Debian's service, but for the log and the interface. Without -C or a configuration file -i is ignored.
	args := []string{"-t", "-u", "-O", controlSockets}
	for i, r := range n.Radios {
		if i > 0 {
			args = append(args, "-N")
		}
		args = append(args, "-C", controlSockets, "-i", r.Ifname, "-D", "nl80211")
		if n.plain {
			config := filepath.Join(n.folder, "wpa_supplicant.conf")
			if err := os.WriteFile(config, []byte(plainConfig), 0o600); err != nil {
				return err
			}
			args = append(args, "-c", config)
		}
	}
	cmd := n.Command(context.Background(), "wpa_supplicant", args...)
	if n.tree != "" {
		cmd = n.TreeCommand(context.Background(), n.tree, "wpa_supplicant", args...)
	}
	cmd.Stdout, cmd.Stderr = log, log
	p, err := start(cmd)
	if err != nil {
		return fmt.Errorf("start wpa_supplicant: %w", err)
	}
	n.supplicant = p
	// When it ends by itself, to wait for its name on the bus is in vain.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := make(chan struct{})
	defer func() { close(ready) }()
	go func() {
		select {
		case <-p.exited:
			cancel(errors.New("wpa_supplicant ended"))
		case <-ready:
		}
	}()
	// They are added in order.
	if err := n.awaitSupplicant(ctx, n.Radios[len(n.Radios)-1].Ifname); err != nil {
		p.kill()
		n.supplicant = nil
		return fmt.Errorf("%w; its log ends:\n%s", err, n.logTail(20))
	}
	return nil
}

// logTail gives the last lines of the supplicant's log; of the system's, what the journal has of it and of NetworkManager.
func (n *Node) logTail(lines int) string {
	if n.system {
		out, err := exec.Command("journalctl", "--boot", "--no-pager", "--output=short-monotonic", "--unit=wpa_supplicant.service", "--unit=NetworkManager.service",
			"--lines="+strconv.Itoa(lines)).CombinedOutput()
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	data, err := os.ReadFile(n.SupplicantLog())
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// StartSupplicant starts wpa_supplicant again after KillSupplicant and returns when it answers on the bus with the radio's
// interface added. On a node of [Nodes] an error also fails the test.
func (n *Node) StartSupplicant() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), readyWait, fmt.Errorf("not up within %v", readyWait))
	defer cancel()
	if n.system {
		if err := run(ctx, "systemctl", "start", "wpa_supplicant.service"); err != nil {
			return n.report("start", err)
		}
		return n.report("start", n.awaitSupplicant(ctx, ""))
	}
	return n.report("start", n.startSupplicant(ctx))
}

// KillSupplicant kills wpa_supplicant with SIGKILL, as a crash would, and returns when it has ended and its name is gone from
// the bus. The kernel keeps what it set up, as after a crash. The system's own may be started again by systemd at once. On a node of [Nodes] an error also fails the test.
func (n *Node) KillSupplicant() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), readyWait, fmt.Errorf("still there after %v", readyWait))
	defer cancel()
	if n.system {
		pid := n.SupplicantPID()
		if pid == 0 {
			return n.report("kill", errors.New("it does not run"))
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			return n.report("kill", err)
		}
		return n.report("kill", n.awaitEnd(ctx, pid))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.supplicant == nil {
		return n.report("kill", errors.New("it does not run"))
	}
	pid := n.supplicant.cmd.Process.Pid
	n.supplicant.kill()
	n.supplicant = nil
	return n.report("kill", n.awaitEnd(ctx, pid))
}

// SupplicantPID is wpa_supplicant's process identifier, or 0 when it does not run.
func (n *Node) SupplicantPID() int {
	if n.system {
		ctx, cancel := context.WithTimeout(context.Background(), readyWait)
		defer cancel()
		return n.ownerPID(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.supplicant == nil {
		return 0
	}
	select {
	case <-n.supplicant.exited:
		return 0
	default:
		return n.supplicant.cmd.Process.Pid
	}
}

func (n *Node) report(verb string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("radio: %s wpa_supplicant of %s: %w", verb, n.Name, err)
	if n.tb != nil {
		n.tb.Helper()
		n.tb.Error(err)
	}
	return err
}

// sockets is the folder of a namespace's control sockets as the guest sees it.
func (n *Node) sockets() string { return filepath.Join(n.folder, "control") }

// Command is [exec.CommandContext] in the node: in its namespace with the namespace's own /sys and /run/wpa_supplicant, and with
// DBUS_SYSTEM_BUS_ADDRESS set to its bus. The process identifier is that of the program itself. A program still running in a
// namespace when the bed closes is killed.
func (n *Node) Command(ctx context.Context, name string, arg ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, arg...)
	if n.NetNS != "" {
		inside := []string{"netns", "exec", n.NetNS, "sh", "-c", ownSockets, n.sockets(), name}
		cmd = exec.CommandContext(ctx, "ip", append(inside, arg...)...)
	}
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+n.Bus)
	return cmd
}

// Do runs fn in the node's namespace as [lab.Inside] does. It does not change the bus.
func (n *Node) Do(fn func() error) error {
	if n.NetNS == "" {
		return fn()
	}
	return lab.Inside("/run/netns/"+n.NetNS, fn)
}

// down ends the node's processes.
func (n *Node) down(ctx context.Context) error {
	err := n.StopNetworkManager(ctx)
	if n.made {
		var pids []byte
		if pids, err = exec.CommandContext(ctx, "ip", "netns", "pids", n.NetNS).Output(); err != nil {
			err = fmt.Errorf("radio: processes of %s: %w", n.Name, err)
		}
		for _, field := range strings.Fields(string(pids)) {
			if pid, perr := strconv.Atoi(field); perr == nil && pid != os.Getpid() {
				// Gone already is as good as killed.
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.supplicant != nil {
		n.supplicant.kill()
		n.supplicant = nil
	}
	if n.accessPoint != nil {
		n.accessPoint.process.kill()
		n.accessPoint = nil
	}
	if n.bus != nil {
		n.bus.kill()
		n.bus = nil
	}
	return err
}
