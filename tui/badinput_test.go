package tui

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nigh/agent/control"
)

// TestTerminalHangup: when the terminal goes away, as when a window is closed or ssh is cut, the program ends.
func TestTerminalHangup(t *testing.T) {
	x := open(t, 80, 24)
	x.waitFor(0, "Ana's laptop")
	if err := x.pty.Close(); err != nil {
		t.Fatal(err)
	}
	x.exit()
}

// TestOutputIsAPipe: with only the keyboard a terminal there is nothing to draw on, and the pipe gets nothing.
func TestOutputIsAPipe(t *testing.T) {
	x := open(t, 80, 24) // for its terminal
	x.waitFor(0, "Ana's laptop")
	tty, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/0", x.cmd.Process.Pid), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = []string{childEnv + "=1", "TERM=xterm"}
	cmd.Stdin = tty
	var said strings.Builder
	cmd.Stderr = &said
	out, _ := cmd.Output()
	tty.Close() // or the terminal would never end
	if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(said.String(), "needs a terminal, and standard output is none") || len(out) != 0 {
		t.Errorf("exit code %d, said %q, wrote %q", cmd.ProcessState.ExitCode(), said.String(), out)
	}
	x.press("q")
	x.exit()
}

// TestAgentOfAnotherVersion: an agent whose API is newer or older than the face is said to be that, with what to do; the face
// stays, tries again, and can be left.
func TestAgentOfAnotherVersion(t *testing.T) {
	for name, header := range map[string]string{"newer": "Nigh-Api: 2\r\n", "older": "Nigh-Api: 0\r\n", "none": ""} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "nigh-tui-") // the path of a socket must be short
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			socket := filepath.Join(dir, "s")
			ln, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			served := make(chan struct{})
			go func() { // ends with ln
				defer close(served)
				for {
					c, err := ln.Accept()
					if err != nil {
						return
					}
					if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
						fmt.Fprintf(c, "HTTP/1.1 200 OK\r\n%sContent-Length: 3\r\n\r\n{}\n", header)
					}
					c.Close()
				}
			}()
			defer func() {
				ln.Close()
				<-served
			}()
			x := open(t, 80, 24, socketEnv+"="+socket)
			at := x.waitFor(0, "Restart the agent so that both are of one version.")
			if !strings.Contains(x.text(), "local API") {
				t.Errorf("it does not say what is wrong:\n%q", x.text())
			}
			at = x.waitFor(at, "Trying again")
			x.press("r")
			x.waitFor(at, "Trying again")
			x.press("q")
			if code := x.exit(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			x.clean()
		})
	}
}

// TestEventsOfANewerAgent: events and states of an agent that knows more than the face are passed over, and what is known in
// them is shown.
func TestEventsOfANewerAgent(t *testing.T) {
	drive(t, &fakeAgent{state: sampleState()}, func(u *ui) {
		u.agent.emit(control.Event{Type: "orbit", Key: "x"})
		p := samplePeers()[0]
		p.Name, p.State, p.Trust = "Ana's phone", "hovering", "adored"
		p.Paths = []control.Path{{Kind: "laser", Address: "mirror 3"}}
		u.agent.emit(control.Event{Type: "peer", Peer: &p})
		tr := sampleTransfers()[0]
		tr.State = "teleporting"
		u.agent.emit(control.Event{Type: "transfer", Transfer: &tr})
		i := sampleOffer()
		i.Kind, i.Transfer = "séance", nil
		u.offerNow(i)
		u.settle()
		checkFrame(t, u.a)
		u.expectNot("Incoming")
		u.expect("Ana's phone", "hovering", "adored", "laser")
		u.press("2")
		u.expect("teleporting")
		u.press("i")
		u.expect("The agent asks what this program does not know. End nigh")
		u.expectCalls()
		u.expectNot("No answer from the agent")
	})
}
