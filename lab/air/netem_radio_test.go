//go:build radio

package air_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// TestOverBadLinks is Show 7 of the issue of moving, which needs the guest's kernel: over links that lose, delay and reorder
// packets files arrive whole, at the rate that scp has over the same link in the same minute.
func TestOverBadLinks(t *testing.T) {
	if _, err := os.Stat("/run/lab/token"); err != nil {
		t.Skip("not in the lab's guest: run it with go run ./lab/cmd/lab test")
	}
	const size = 2 << 20
	n := lab.NewNet(t)
	net := n.Bridge("lan")
	hosts := []*lab.Host{n.Host("ada"), n.Host("bob")}
	var agents []*node.Agent
	for i, h := range hosts {
		net.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		// One packet is one packet, as behind a real network card: else a whole burst is lost at once.
		h.IP("link", "set", "eth0", "gso_max_segs", "1")
		a, err := node.Start(t.Context(), node.Config{Binary: binary(t), Dir: t.TempDir(), Name: names[i], Command: h.Command, Args: []string{"--no-direct", "--accept", "trusted"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s:\n%s", a.Name, a.Tail())
			}
			_ = a.Kill()
		})
		agents = append(agents, a)
	}
	ada, bob := agents[0], agents[1]
	if err := node.Befriend(t.Context(), ada, bob); err != nil {
		t.Fatal(err)
	}
	await(t, ada, time.Minute, hasPeer("bob", "ready"))
	copied, scp := sshOn(t, hosts[0], hosts[1], "10.0.0.2")
	for _, c := range []struct{ name, netem string }{
		{"1 % lost", "loss 1%"},
		{"5 % lost", "loss 5%"},
		{"20 ms late", "delay 20ms"},
		{"reordered", "delay 10ms reorder 25% 50%"},
	} {
		for _, h := range hosts {
			h.Run("tc", append([]string{"qdisc", "replace", "dev", "eth0", "root", "netem", "limit", "4000"}, strings.Fields(c.netem)...)...)
		}
		file := filepath.Join(t.TempDir(), strings.ReplaceAll(c.name, " ", "-"))
		random(t, file, size)
		began := time.Now()
		nigh(t, ada, 2*time.Minute, "send", file, "--to", "bob", "--wait")
		ours := time.Since(began)
		same(t, file, bob)
		began = time.Now()
		scp(file)
		theirs := time.Since(began)
		if digest(t, file) != digest(t, filepath.Join(copied, filepath.Base(file))) {
			t.Errorf("%s: scp's copy differs", c.name)
		}
		dropped := !strings.Contains(hosts[0].Run("tc", "-s", "qdisc", "show", "dev", "eth0"), "dropped 0,")
		if strings.Contains(c.netem, "loss") && !dropped {
			t.Errorf("%s: nothing was lost: the test shows nothing", c.name)
		}
		rate := func(d time.Duration) float64 { return size / 1e6 / d.Seconds() }
		t.Logf("%-10s nigh %5.2f MB/s, scp %5.2f MB/s, ratio %.2f", c.name, rate(ours), rate(theirs), rate(ours)/rate(theirs))
	}
	var transfers []control.Transfer
	if err := bob.JSON(t.Context(), &transfers, "transfers"); err != nil {
		t.Fatal(err)
	}
	for _, tr := range transfers {
		if tr.State != "done" {
			t.Errorf("%s is %s: %s", tr.Name, tr.State, tr.Error)
		}
	}
}

// sshOn starts an SSH server on a host; the function that it returns copies a file to there with scp.
func sshOn(t *testing.T, from, to *lab.Host, address string) (folder string, scp func(file string)) {
	t.Helper()
	folder = t.TempDir()
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(within(t, time.Minute), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v: %s", name, args, err, out)
		}
	}
	path := func(name string) string { return filepath.Join(folder, name) }
	for _, key := range []string{"host", "user"} {
		run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path(key))
	}
	// What the service and the package would have made.
	run("sh", "-c", "mkdir -p /run/sshd && id -u sshd || useradd --system --no-create-home --home-dir /run/sshd sshd")
	for name, text := range map[string]string{
		"sshd_config": fmt.Sprintf("ListenAddress %s\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n",
			address, path("host"), path("user.pub")),
		"ssh_config": fmt.Sprintf("IdentityFile %s\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n", path("user")),
	} {
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(path("log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := to.Command(ctx, "/usr/sbin/sshd", "-D", "-e", "-f", path("sshd_config"))
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = server.Wait() // it was killed
		_ = log.Close()
	})
	scp = func(file string) {
		t.Helper()
		out, err := from.Command(within(t, 4*time.Minute), "scp", "-q", "-F", path("ssh_config"), file, "root@"+address+":"+folder).CombinedOutput()
		if err != nil {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("scp: %v: %s\n%s", err, out, said)
		}
	}
	first := path("first")
	random(t, first, 1) // the server may not listen yet
	eventually(t, 30*time.Second, func() string {
		if out, err := from.Command(t.Context(), "scp", "-q", "-F", path("ssh_config"), first, "root@"+address+":"+folder+"/again").CombinedOutput(); err != nil {
			return fmt.Sprintf("scp: %v: %s", err, out)
		}
		return ""
	})
	return folder, scp
}
