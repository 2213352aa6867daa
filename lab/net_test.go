package lab

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// talk sends a line over TCP from one host to an address of another.
func talk(t *testing.T, from, to *Host, address string) {
	t.Helper()
	var listener net.Listener
	if err := to.Do(func() (err error) { listener, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	got := make(chan string, 1)
	go func() {
		defer close(got)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		line, _ := bufio.NewReader(c).ReadString('\n')
		got <- line
	}()
	err := from.Do(func() error {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("hello\n"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if line := <-got; line != "hello\n" {
		t.Fatalf("got %q", line)
	}
}

func TestBridge(t *testing.T) {
	n := NewNet(t)
	lan := n.Bridge("lan")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	lan.Join(a, "eth0", "10.0.0.1/24")
	lan.Join(b, "eth0", "10.0.0.2/24", "fd00::2/64")
	lan.Join(c, "eth0", "fd00::3/64")
	talk(t, a, b, "10.0.0.2:7421")
	talk(t, c, b, "[fd00::2]:7421")

	// A host sees its own links only.
	if links := a.IP("-oneline", "link", "show"); strings.Count(links, "\n") != 2 {
		t.Fatalf("links of a:\n%s", links)
	}
}

func TestCableLinkLocal(t *testing.T) {
	n := NewNet(t)
	a, b := n.Host("a"), n.Host("b")
	n.Cable(a, "eth0", b, "eth1")
	var local string
	for _, word := range strings.Fields(b.IP("-oneline", "address", "show", "dev", "eth1")) {
		if strings.HasPrefix(word, "fe80::") {
			local, _, _ = strings.Cut(word, "/")
		}
	}
	// The zone differs on each side: listen on all of b's addresses and dial a's view of the link-local one.
	var listener net.Listener
	if err := b.Do(func() (err error) { listener, err = net.Listen("tcp6", "[::]:7421"); return err }); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	err := a.Do(func() error {
		c, err := net.DialTimeout("tcp6", "["+local+"%eth0]:7421", 5*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCommandRunsInside(t *testing.T) {
	n := NewNet(t)
	a := n.Host("a")
	out, err := a.Command(t.Context(), "ls", "/sys/class/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(out)) != "lo" {
		t.Fatalf("links seen inside: %q", out)
	}
}

func TestDoReturnsHome(t *testing.T) {
	n := NewNet(t)
	a := n.Host("a")
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("mine")
	for range 20 {
		var inside string
		err := a.Do(func() (err error) {
			inside, err = os.Readlink("/proc/thread-self/ns/net")
			return errors.Join(err, want)
		})
		if !errors.Is(err, want) || inside == home {
			t.Fatalf("inside %q, home %q, error %v", inside, home, err)
		}
		if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != home {
			t.Fatalf("thread left in %q", now)
		}
	}
}

// TestNothingLeft checks that a bed removes its namespaces and the processes in them.
func TestNothingLeft(t *testing.T) {
	var path string
	ended := make(chan error, 1)
	t.Run("bed", func(t *testing.T) {
		a := NewNet(t).Host("a")
		path = a.Path
		cmd := a.Command(context.Background(), "sleep", "600")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// ip-netns becomes sleep inside the namespace after it has started: wait until it is listed there.
		for {
			pids, err := run("ip", "netns", "pids", filepath.Base(path))
			if err != nil {
				t.Fatal(err)
			}
			if strings.TrimSpace(pids) != "" {
				break
			}
		}
		go func() { ended <- cmd.Wait() }()
	})
	if path == "" {
		t.Skip("needs root: network namespaces")
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("namespace is left: %v", err)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Fatal("process outlived its bed")
	}
}
