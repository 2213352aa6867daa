package cuts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nigh/lab/vm"
)

const (
	// batchBytes is what is sent in all.
	batchBytes = 24 << 20
	// bootLimit bounds what one boot may take until its cut, under emulation on a loaded machine.
	bootLimit = 10 * time.Minute
	// defaultCuts is how often the power is cut where nothing else is asked for.
	defaultCuts = 2
)

// The environment of [TestInGuest].
const (
	pointVariable  = "NIGH_CUT_AT"   // bytes that have arrived when the power is cut; -1 = it is not
	binaryVariable = "NIGH_CUT_NIGH" // path of nigh
)

// TestPowerCuts is what the package is for.
func TestPowerCuts(t *testing.T) {
	if os.Getenv("NIGH_LAB_VM") != "1" {
		t.Skip("boots virtual machines: set NIGH_LAB_VM=1")
	}
	cuts := defaultCuts
	if asked := os.Getenv("NIGH_CUTS"); asked != "" {
		var err error
		if cuts, err = strconv.Atoi(asked); err != nil || cuts < 1 {
			t.Fatalf("NIGH_CUTS is %q", asked)
		}
	}
	cache, err := vm.CacheFolder()
	if err != nil {
		t.Fatal(err)
	}
	parts, err := vm.Prepare(t.Context(), cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	nigh, guest, disk := filepath.Join(dir, "nigh"), filepath.Join(dir, "cuts.test"), filepath.Join(dir, "disk")
	build(t, "build", "-o", nigh, "nigh")
	build(t, "test", "-c", "-o", guest, "nigh/lab/cuts")
	makeDisk(t, disk)

	points := make([]int64, cuts)
	for i := range points {
		points[i] = rand.Int64N(batchBytes)
	}
	slices.Sort(points)
	t.Logf("cuts at %d of %d bytes", points, batchBytes)
	ids := ""
	for i, point := range append(points, -1) {
		boot := time.Now()
		said := session(t, vm.Config{Parts: parts, Folders: []string{dir}, Disk: disk}, vm.Command{
			Args: []string{guest, "-test.run=^TestInGuest$", "-test.v"}, Dir: dir,
			Env: []string{fmt.Sprintf("%s=%d", pointVariable, point), binaryVariable + "=" + nigh},
		})
		var now []string
		for line := range strings.Lines(said) {
			if rest, ok := strings.CutPrefix(line, idMark); ok {
				now = append(now, strings.TrimSpace(rest))
			}
		}
		if who := strings.Join(now, " "); len(now) != 2 || ids != "" && who != ids {
			t.Fatalf("after %d cuts the devices are %q, and were %q:\n%s", i, who, ids, said)
		} else {
			ids = who
		}
		t.Logf("boot %d: %.1f s", i+1, time.Since(boot).Seconds())
	}
}

// session boots a guest, runs the command in it, and cuts its power when it asks for that. It returns what the command has printed.
func session(t *testing.T, c vm.Config, command vm.Command) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	m, err := vm.Boot(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	said := &marked{mark: []byte(cutMark), seen: make(chan struct{})}
	command.Output = said
	type end struct {
		status int
		err    error
	}
	ended := make(chan end, 1)
	go func() {
		status, err := m.Run(ctx, command)
		ended <- end{status, err}
	}()
	select {
	case <-said.seen:
		if err := m.Cut(); err != nil {
			t.Error(err)
		}
		if e := <-ended; !errors.Is(e.err, vm.ErrGuest) {
			t.Errorf("the guest outlived the cut: %+v", e)
		}
	case e := <-ended:
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if e.status != 0 || e.err != nil || !strings.Contains(said.String(), wholeMark) {
			t.Fatalf("in the guest: %+v\n%s", e, said)
		}
	}
	return said.String()
}

// marked keeps what is written to it, and says when a mark was in it.
type marked struct {
	mark []byte
	seen chan struct{} // closed then

	mu   sync.Mutex
	text bytes.Buffer
	once sync.Once
}

func (m *marked) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.text.Write(p)
	if bytes.Contains(m.text.Bytes(), m.mark) {
		m.once.Do(func() { close(m.seen) })
	}
	return n, err
}

func (m *marked) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// build runs the go command so that what it builds needs nothing of the system it runs on.
func build(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// makeDisk makes an empty file system.
func makeDisk(t *testing.T, path string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "mke2fs", "-q", "-t", "ext4", path, "192M").CombinedOutput(); err != nil {
		t.Fatalf("mke2fs: %v: %s", err, out)
	}
}
