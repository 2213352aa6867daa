package cuts

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"nigh/agent/control"
	"nigh/lab"
	"nigh/lab/node"
)

// What the guest prints for the host.
const (
	idMark    = "id of a device: "
	cutMark   = "cut the power now"
	wholeMark = "the batch is whole"
)

const (
	device = "/dev/vda"
	disk   = "/run/disk"
	// patience bounds each wait in the guest, which is emulated, and slow.
	patience = 5 * time.Minute
	// linkMbit is the rate of the cable, so that the batch takes its time.
	linkMbit = 24
)

// TestInGuest is one boot of the machine: it brings the disk up, goes on with the transfer, and has the power cut at a point of it, or
// sees to the end of it.
func TestInGuest(t *testing.T) {
	asked := os.Getenv(pointVariable)
	if asked == "" {
		t.Skip("is started in a guest by TestPowerCuts")
	}
	point, err := strconv.ParseInt(asked, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	mount(t)
	source := filepath.Join(disk, "source")
	_, err = os.Stat(source)
	first := errors.Is(err, fs.ErrNotExist)
	if first {
		makeBatch(t, source)
	} else if err != nil {
		t.Fatal(err)
	}
	finalNames(t, source, filepath.Join(disk, "bob", "inbox"))

	n := lab.NewNet(t)
	lan := n.Bridge("lan")
	var agents []*node.Agent
	for i, name := range []string{"ada", "bob"} {
		h := n.Host(name)
		lan.Join(h, "eth0", fmt.Sprintf("10.0.0.%d/24", i+1))
		lan.Slow(h, "eth0", linkMbit)
		dir := filepath.Join(disk, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := node.Start(context.Background(), node.Config{
			Binary: os.Getenv(binaryVariable), Dir: dir, Name: name, Command: h.Command, Level: "info",
			Args: []string{"--no-direct", "--accept", "trusted"},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("%s:\n%s", a.Name, a.Tail())
			}
			_ = a.Kill()
		})
		status, err := a.Client().Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\n%s%s %s\n", idMark, name, status.ID)
		agents = append(agents, a)
	}
	ada, bob := agents[0], agents[1]
	if first {
		if err := node.Befriend(t.Context(), ada, bob); err != nil {
			t.Fatal(err)
		}
		if _, errs, code := ada.Run(t.Context(), "send", "--to", "bob", source); code != 0 {
			t.Fatalf("send: exit %d: %s", code, errs)
		}
	}
	if point >= 0 {
		reached(t, bob, func(x control.Transfer) bool {
			return x.BytesDone >= point || x.State == "verifying" || x.State == "done"
		})
		fmt.Printf("\n%s\n", cutMark)
		<-time.After(patience)
		t.Fatal("the power was not cut")
	}
	for _, a := range agents {
		reached(t, a, func(x control.Transfer) bool { return x.State == "done" })
	}
	want, err := node.Digest(source)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := node.Digest(filepath.Join(bob.Inbox, "source")); err != nil || got != want {
		t.Errorf("%v: the inbox has\n%s\nwant\n%s", err, got, want)
	}
	if beside, err := os.ReadDir(bob.Inbox); err != nil || len(beside) != 1 {
		t.Errorf("in the inbox are %v, %v", beside, err)
	}
	if !t.Failed() {
		fmt.Printf("\n%s\n", wholeMark)
	}
}

// mount checks the disk as a boot does, which mends what a journal mends and refuses everything else, and has it as a folder.
func mount(t *testing.T) {
	t.Helper()
	if err := os.MkdirAll(disk, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][]string{
		{"modprobe", "-a", "virtio_blk", "ext4"},
		{"e2fsck", "-p", device},
		{"mount", "-t", "ext4", device, disk},
	} {
		out, err := exec.CommandContext(t.Context(), c[0], c[1:]...).CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && c[0] == "e2fsck" && exit.ExitCode() == 1 {
			err = nil // mended
		}
		if err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(c, " "), err, out)
		}
	}
	t.Cleanup(func() {
		if err := exec.Command("umount", "-l", disk).Run(); err != nil {
			t.Error(err)
		}
	})
}

// makeBatch makes what is sent, of mixed sizes, and has it on the disk before anything else happens.
func makeBatch(t *testing.T, folder string) {
	t.Helper()
	sizes := []int64{batchBytes / 3, batchBytes / 6, 0, 1}
	left := int64(batchBytes)
	for _, s := range sizes {
		left -= s
	}
	for n := int64(0); left > 0; n++ {
		s := min(left, []int64{3 << 10, 50 << 10, 400 << 10, 1 << 20}[n%4]+n)
		sizes, left = append(sizes, s), left-s
	}
	fresh := folder + ".new"
	for i, s := range sizes {
		if err := node.Random(filepath.Join(fresh, strconv.Itoa(i%3), strconv.Itoa(i)), s); err != nil {
			t.Fatal(err)
		}
	}
	syscall.Sync()
	if err := os.Rename(fresh, folder); err != nil {
		t.Fatal(err)
	}
	syscall.Sync()
}

// finalNames checks that what has a name in the inbox that it was sent under is what was sent.
func finalNames(t *testing.T, source, inbox string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(inbox, "source"), func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() || strings.HasSuffix(path, ".nigh-part"):
			return nil
		}
		name, err := filepath.Rel(filepath.Join(inbox, "source"), path)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if want, err := os.ReadFile(filepath.Join(source, name)); err != nil || string(want) != string(got) {
			t.Errorf("%s has its name, and %d bytes that were not sent so (%v)", name, len(got), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// reached waits until the agent's only transfer is as far as it should be.
func reached(t *testing.T, a *node.Agent, there func(control.Transfer) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := a.Await(ctx, func(s control.State) bool {
		if len(s.Transfers) != 1 {
			return false
		}
		x := s.Transfers[0]
		if x.State == "failed" || x.State == "refused" {
			t.Errorf("%s: the transfer is %s: %s", a.Name, x.State, x.Error)
			return true
		}
		return there(x)
	})
	if err != nil {
		t.Fatal(err)
	}
}
