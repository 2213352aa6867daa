package crowd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"nigh/lab"
	"nigh/lab/node"
)

// atOnce is how many processes are being started at the same time: the machine that plays all the devices has few
// processors, and one that is waited for in vain counts as dead.
const atOnce = 8

// Binary builds the program as `make build` does, once for all tests of a process, and returns its path.
var Binary = sync.OnceValues(func() (string, error) {
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("crowd: go list: %w", err)
	}
	dir := string(root[:len(root)-1])
	if out, err := exec.Command("make", "--no-print-directory", "-C", dir, "build").CombinedOutput(); err != nil {
		return "", fmt.Errorf("crowd: make build: %w: %s", err, out)
	}
	return filepath.Join(dir, "bin", "nigh"), nil
})

// Crowd is many devices on one segment.
type Crowd struct {
	LAN    *lab.Bridge
	Hosts  []*lab.Host
	Agents []*node.Agent // by host; nil until started

	tb  testing.TB
	bed *lab.Net
	dir string
}

// New makes the segment and n hosts on it, 10.77.0.2 and upwards of 10.77.0.0/16, without agents. All of it goes when
// the test ends.
func New(tb testing.TB, n int) *Crowd {
	tb.Helper()
	bed := lab.NewNet(tb)
	c := &Crowd{LAN: bed.Bridge("crowd"), tb: tb, bed: bed, dir: tb.TempDir()}
	roomForNeighbours(tb, n)
	c.Grow(n)
	return c
}

// Grow adds n hosts.
func (c *Crowd) Grow(n int) {
	c.tb.Helper()
	for range n {
		i := len(c.Hosts)
		h := c.bed.Host(fmt.Sprintf("c%d", i+1))
		c.LAN.Join(h, "eth0", Address(i)+"/16")
		c.Hosts = append(c.Hosts, h)
		c.Agents = append(c.Agents, nil)
	}
}

// Address is the IPv4 address of the host with this index.
func Address(i int) string { return fmt.Sprintf("10.77.%d.%d", (i+1)/250, (i+1)%250+1) }

// Name is what the device of the host with this index is called.
func Name(i int) string { return fmt.Sprintf("member-%03d", i+1) }

// Start starts the agents of the hosts from to below to, as many at once as the machine bears, and returns when all
// answer.
func (c *Crowd) Start(ctx context.Context, from, below int, args ...string) error {
	binary, err := Binary()
	if err != nil {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i := from; i < below; i++ {
		group.Go(func() error {
			if gctx.Err() != nil {
				return gctx.Err()
			}
			dir := filepath.Join(c.dir, Name(i))
			if err := os.MkdirAll(dir, 0o700); err != nil {
				return err
			}
			a, err := node.Start(ctx, node.Config{
				Binary: binary, Dir: dir, Name: Name(i), Level: "warn", Command: c.Hosts[i].Command,
				Args: append([]string{"--no-direct"}, args...),
			})
			c.Agents[i] = a
			return err
		})
	}
	return group.Wait()
}

// Stop stops the agents of the hosts from to below to as systemd would, all at once.
func (c *Crowd) Stop(from, below int) error {
	var group errgroup.Group
	for _, a := range c.Agents[from:below] {
		group.Go(a.Stop)
	}
	return group.Wait()
}
