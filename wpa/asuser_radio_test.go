//go:build radio

package wpa

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/lab/radio"
	"nigh/wpa/dbusapi"
)

// userEnv names the configuration, as JSON, of a Radio that runs in a process of its own; see agent.
const userEnv = "NIGH_WPA_TEST_USER"

// userName is the user of agents; the bus refuses users whom the system does not know.
const userName = "nigh-alice"

// agentAddress is the P2P device address of an agent that has its own supplicant.
var agentAddress = net.HardwareAddr{0x02, 0x4e, 0x47, 0x00, 0x00, 0x01}

// agentConfig is what a Radio in a process of its own is told.
type agentConfig struct {
	Bus, Ifname, Name, Folder string
	Group                     string // that the user is in; "" = nigh
	Engine                    Engine
	Killed                    bool
}

// said is one line that it prints.
type said struct {
	What    string // "status", "up", "gone", "done", "request", "removed" (the supplicant lost an interface)
	Status  Status
	Group   Group
	Reason  Reason
	Error   string
	Hint    string
	At      time.Duration // since the process began
	Command string
}

// agent is a Radio in a process of its own, which has the rights of the unit nigh@.service: a user who is not root, the group
// nigh, CAP_NET_ADMIN and CAP_NET_RAW.
type agent struct {
	t     *testing.T
	cmd   *exec.Cmd
	input io.WriteCloser

	mu      sync.Mutex
	lines   []said        // guarded by mu
	changed chan struct{} // closed and replaced with every line; guarded by mu
	done    chan struct{}
}

// newAgent starts one on a node, by the test that calls it, which must begin with a look at userEnv; root says to leave it root's rights. It is ended at the end of the test.
func newAgent(t *testing.T, node *radio.Node, cfg agentConfig, root bool) *agent {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where the user may go.
	binary := "/run/nigh-wpa.test"
	if _, err := os.Stat(binary); err != nil {
		if out, err := exec.Command("install", "-m", "755", self, binary).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	cfg.Bus = node.Bus
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, changed: make(chan struct{}), done: make(chan struct{})}
	a.cmd = node.Command(context.Background(), binary, "-test.run=^"+strings.Split(t.Name(), "/")[0]+"$")
	a.cmd.Env = append(a.cmd.Environ(), userEnv+"="+string(text))
	a.cmd.Dir = "/"
	if !root {
		uid := idOf(t, "passwd", userName)
		a.cmd.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: uid, Gid: uid, Groups: []uint32{idOf(t, "group", cmp.Or(cfg.Group, "nigh"))}},
			AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
		}
	}
	if a.input, err = a.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	output, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.cmd.Stderr = testWriter{t}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go a.read(output)
	t.Cleanup(a.end)
	return a
}

// idOf looks the number of a user or group up.
func idOf(t *testing.T, database, name string) uint32 {
	t.Helper()
	out, err := exec.Command("getent", database, name).Output()
	fields := strings.Split(string(out), ":")
	if err != nil || len(fields) < 3 {
		t.Fatalf("no %s in %s: %v", name, database, err)
	}
	id, err := strconv.ParseUint(fields[2], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(id)
}

func (a *agent) read(output io.Reader) {
	defer close(a.done)
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		var s said
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			continue // what package testing prints
		}
		a.mu.Lock()
		a.lines = append(a.lines, s)
		close(a.changed)
		a.changed = make(chan struct{})
		a.mu.Unlock()
	}
}

// end closes its input, which ends it in order.
func (a *agent) end() {
	_ = a.input.Close()
	select {
	case <-a.done:
	case <-time.After(limit):
		a.t.Error("the agent does not end")
		_ = a.cmd.Process.Kill()
		<-a.done
	}
	_ = a.cmd.Wait()
}

// mark is a position in the lines said so far.
func (a *agent) mark() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.lines)
}

// order gives a command and returns where its answer can be looked for.
func (a *agent) order(command string, args ...string) (mark int) {
	a.t.Helper()
	mark = a.mark()
	if _, err := fmt.Fprintln(a.input, strings.Join(append([]string{command}, args...), " ")); err != nil {
		a.t.Fatal(err)
	}
	return mark
}

// await returns the first line since mark that match likes.
func (a *agent) await(mark int, what string, match func(said) bool) said {
	a.t.Helper()
	deadline := time.After(limit)
	for {
		a.mu.Lock()
		lines, changed := a.lines, a.changed
		a.mu.Unlock()
		for _, s := range lines[mark:] {
			if match(s) {
				return s
			}
		}
		select {
		case <-changed:
		case <-a.done:
			a.t.Fatalf("no %s: the agent ended; lines since: %+v", what, lines[mark:])
		case <-deadline:
			a.t.Fatalf("no %s; lines since: %+v", what, lines[mark:])
		}
	}
}

func (a *agent) ready() Status {
	a.t.Helper()
	return a.await(0, "radio ready", func(s said) bool { return s.What == "status" && s.Status.State == Ready }).Status
}

// runAgent is the process of an agent.
func runAgent(t *testing.T, config string) {
	begin := time.Now()
	var cfg agentConfig
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	say := func(s said) {
		s.At = time.Since(begin)
		s.Group.Passphrase = ""
		s.Status.Err = nil
		mu.Lock()
		defer mu.Unlock()
		text, err := json.Marshal(s)
		if err != nil {
			t.Error(err)
		}
		fmt.Printf("%s\n", text)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := Open(ctx, Config{
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Bus:    cfg.Bus, Ifname: cfg.Ifname, DeviceName: cfg.Name, Intent: -1, Engine: cfg.Engine, Folder: cfg.Folder, Killed: cfg.Killed,
		Address: agentAddress,
	})
	if err != nil {
		say(said{What: "done", Command: "open", Error: err.Error(), Hint: Hint(err)})
		return
	}
	var work sync.WaitGroup
	// An own look at the bus: when the supplicant lost an interface.
	if spy, err := dbusapi.Dial(ctx, cfg.Bus); err == nil {
		defer spy.Close()
		if _, err := spy.Present(ctx); err == nil {
			work.Go(func() {
				for {
					select {
					case <-spy.Ready():
					case <-ctx.Done():
						return
					}
					for _, s := range spy.Next() {
						if _, ok := s.(dbusapi.InterfaceRemoved); ok {
							say(said{What: "removed"})
						}
					}
				}
			})
		}
	}
	work.Go(func() {
		for e := range r.Events() {
			switch e := e.(type) {
			case StateChanged:
				say(said{What: "status", Status: e.Status, Hint: e.Status.Hint})
			case GroupUp:
				say(said{What: "up", Group: e.Group})
			case GroupGone:
				say(said{What: "gone", Group: e.Group, Reason: e.Reason})
			case RequestReceived:
				say(said{What: "request"})
				work.Go(func() {
					_, err := r.Accept(ctx, e.Request, PBC(), ConnectOptions{Intent: -1})
					say(done("accept", err))
				})
			}
		}
	})
	work.Go(func() {
		if err := r.Run(ctx); err != nil {
			say(done("run", err))
		}
	})
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		command, argument, _ := strings.Cut(commands.Text(), " ")
		work.Go(func() { say(done(command, carryOut(ctx, r, command, argument))) })
	}
	cancel()
	work.Wait()
}

func done(command string, err error) said {
	s := said{What: "done", Command: command}
	if err != nil {
		s.Error, s.Hint = err.Error(), Hint(err)
	}
	return s
}

func carryOut(ctx context.Context, r *Radio, command, argument string) error {
	switch command {
	case "start":
		_, err := r.StartGroup(ctx, GroupOptions{})
		return err
	case "leave":
		for _, g := range r.Status().Groups {
			if err := r.Leave(ctx, g.ID); err != nil {
				return err
			}
		}
		return nil
	case "listen":
		return r.Listen(ctx, 10*time.Minute)
	case "connect", "pin":
		peer, err := find(ctx, r, argument)
		if err != nil {
			return err
		}
		method := PBC()
		if command == "pin" {
			method = ShowPIN("12345670", nil)
		}
		_, err = r.Connect(ctx, peer, method, ConnectOptions{Intent: -1})
		return err
	}
	return fmt.Errorf("unknown command %q", command)
}

// linkExists reports whether a node has an interface.
func linkExists(node *radio.Node, ifname string) bool {
	return node.Do(func() error { _, err := os.Stat(filepath.Join("/sys/class/net", ifname)); return err }) == nil
}

// find searches for a device by its name.
func find(ctx context.Context, r *Radio, name string) (net.HardwareAddr, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := r.Find(ctx, limit); err != nil {
		return nil, err
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		for _, p := range r.Peers() {
			if p.Name == name {
				return p.Address, nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%s is not near", name)
		}
	}
}
