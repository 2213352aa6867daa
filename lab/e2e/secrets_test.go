package e2e_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// wiretap keeps every byte that goes over the links of a host until the test ends.
func wiretap(t *testing.T, h *lab.Host) (heard func() []byte) {
	t.Helper()
	var fd int
	if err := h.Do(func() (err error) {
		const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // network byte order, on machines of little endian
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all); err != nil {
			return err
		}
		look := unix.NsecToTimeval(int64(50 * time.Millisecond))
		return errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &look), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20))
	}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var kept bytes.Buffer
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		frame := make([]byte, 1<<17)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, _, err := unix.Recvfrom(fd, frame, 0)
			if err != nil {
				continue // nothing for a moment
			}
			mu.Lock()
			kept.Write(frame[:n])
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
	return func() []byte {
		mu.Lock()
		defer mu.Unlock()
		return bytes.Clone(kept.Bytes())
	}
}

// arguments keeps the arguments of every process of this machine until the test ends.
func arguments(t *testing.T) (seen func() []byte) {
	t.Helper()
	var mu sync.Mutex
	kept := map[string]bool{}
	stop, done := make(chan struct{}), make(chan struct{})
	look := func() {
		names, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return
		}
		for _, name := range names {
			raw, err := os.ReadFile(name)
			if err != nil {
				continue // it has ended
			}
			mu.Lock()
			kept[string(raw)] = true
			mu.Unlock()
		}
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			look()
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	return func() []byte {
		look()
		mu.Lock()
		defer mu.Unlock()
		var all bytes.Buffer
		for line := range kept {
			all.WriteString(line + "\n")
		}
		return all.Bytes()
	}
}

// privateKey returns the secret half of an agent's identity.
func privateKey(t *testing.T, a *node.Agent) ed25519.PrivateKey {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(a.State, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		t.Fatal("the key file has no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

// TestSecretsAreNowhere pairs two devices by a setup code, sends a message and a file, and looks for the secrets of that in
// everything that others can see: arguments of processes, debug logs, and every byte on the wire, announcements included. What
// is looked through is shown to have what anybody may know, and a code that somebody does put among the arguments.
func TestSecretsAreNowhere(t *testing.T) {
	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	ha, hb := n.Host("ada"), n.Host("bob")
	lan.Join(ha, "eth0", "10.0.0.1/24")
	lan.Join(hb, "eth0", "10.0.0.2/24")
	wire, argv := wiretap(t, ha), arguments(t)
	ada, bob := start(t, ha, "ada", "--accept", "trusted"), start(t, hb, "bob-the-visible", "--accept", "trusted")
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob-the-visible", "visible")); err != nil {
		t.Fatal(err)
	}
	// What not to do: it is seen. Nobody has that name, so the code is tried at no device.
	careless := strings.TrimSpace(ask(t, ada, "", "setup-code").out)
	for began := time.Now(); !bytes.Contains(argv(), []byte(careless)); {
		if d := ask(t, ada, "", "pair", "nobody", "--code", careless); d.code != 4 || time.Since(began) > time.Minute {
			t.Fatalf("a code among the arguments is not seen: %+v", d)
		}
	}
	code := strings.TrimSpace(ask(t, bob, "", "setup-code").out)
	if d := ask(t, ada, code, "pair", "bob-the-visible", "--code", "-"); d.code != 0 {
		t.Fatalf("pair: %+v", d)
	}
	if err := ada.Await(within(t, 30*time.Second), hasPeer("bob-the-visible", "ready")); err != nil {
		t.Fatal(err)
	}
	const words, marker = "the words of a private message", "the bytes of a private file"
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(marker), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := ask(t, ada, words, "msg", "-", "--to", "bob-the-visible"); d.code != 0 {
		t.Fatalf("msg: %+v", d)
	}
	if d := ask(t, ada, "", "send", file, "--to", "bob-the-visible", "--wait"); d.code != 0 {
		t.Fatalf("send: %+v", d)
	}
	if err := bob.Await(within(t, 30*time.Second), func(s control.State) bool {
		return len(s.Messages) == 1 && s.Messages[0].Text == words && len(s.Transfers) == 1 && s.Transfers[0].State == "done"
	}); err != nil {
		t.Fatal(err)
	}

	logs := func(a *node.Agent) []byte {
		raw, err := os.ReadFile(a.Log)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	places := map[string][]byte{"the arguments of processes": argv(), "ada's log": logs(ada), "bob's log": logs(bob), "the wire": wire()}
	for place, known := range map[string]string{
		"the arguments of processes": careless, "ada's log": "bob-the-visible", "bob's log": "level=DEBUG", "the wire": "n=bob-the-visible",
	} {
		if !bytes.Contains(places[place], []byte(known)) {
			t.Errorf("%s: %d bytes without %q, so they show nothing", place, len(places[place]), known)
		}
	}
	secrets := map[string]string{
		"the setup code": code, "the setup code without dashes": strings.ReplaceAll(code, "-", ""), "the setup code in small letters": strings.ToLower(code),
		"the message": words, "the file": marker,
	}
	for _, a := range []*node.Agent{ada, bob} {
		seed := privateKey(t, a).Seed()
		secrets[a.Name+"'s key"] = string(seed)
		secrets[a.Name+"'s key in hexadecimal"] = hex.EncodeToString(seed)
		for _, shift := range []int{0, 1, 2} { // however it falls into the groups of base64
			text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), seed...))
			secrets[a.Name+"'s key in base64 "+string(rune('0'+shift))] = text[4:40]
		}
	}
	for what, secret := range secrets {
		for place, text := range places {
			if bytes.Contains(text, []byte(secret)) {
				t.Errorf("%s has %s", place, what)
			}
		}
	}
	for _, a := range []*node.Agent{ada, bob} {
		for name, want := range map[string]os.FileMode{"": 0o700 | os.ModeDir, "key.pem": 0o600, "nigh.db": 0o600} {
			if info, err := os.Stat(filepath.Join(a.State, name)); err != nil || info.Mode() != want {
				t.Errorf("%s's state %s: %v, %v", a.Name, name, info.Mode(), err)
			}
		}
	}
}
