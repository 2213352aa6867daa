package radio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

var (
	// ErrNotInLab says that this process is not in the lab's guest.
	ErrNotInLab = errors.New("not in the lab's guest: run it with go run ./lab/cmd/lab test")
	// ErrRadios says that the number of radios asked for cannot be had.
	ErrRadios = errors.New("radios are not available")
)

const (
	// MaxNodes bounds the nodes of one bed: emulation of more is too slow to be of use.
	MaxNodes = 4
	// MaxRadios bounds the radios of one bed, for the same reason.
	MaxRadios = 6
	// module simulates radios.
	module = "mac80211_hwsim"
	// readyWait bounds every wait for a part of a node to come up, under emulation on a loaded machine.
	readyWait = 90 * time.Second
)

// Config says what Open makes.
type Config struct {
	Nodes int // 1 to MaxNodes
	// System makes node 0 the guest itself: its own namespace, the system bus, and Debian's wpa_supplicant.service with no
	// interface added. The guest must have been booted with systemd.
	System bool
	Plain  int          // of the nodes, the last so many have no use of P2P: Wi-Fi clients and access points
	Radios int          // of each node; 0 = 1. There are at most MaxRadios in all
	Logger *slog.Logger // nil discards

	// What follows is as in [Cell], and where it is left zero it is what the environment variable [CellEnv] asks for.

	NoP2PDevice bool
	Channels    int
	LongNames   bool
	Supplicant  string // not of System and Plain nodes, which have the host's
}

// Bed is a set of nodes whose radios hear each other. One process at a time can have one.
type Bed struct {
	Nodes  []*Node
	folder string // configuration, buses and logs of the nodes
}

// Open loads the radios and brings up the nodes, each until its wpa_supplicant answers on its bus. Close removes everything.
func Open(ctx context.Context, c Config) (*Bed, error) {
	if c.Nodes < 1 || c.Nodes > MaxNodes {
		return nil, fmt.Errorf("radio: %d nodes: %w: 1 to %d", c.Nodes, ErrRadios, MaxNodes)
	}
	c, err := c.onCell()
	if err != nil {
		return nil, err
	}
	if c.Radios < 1 || c.Nodes*c.Radios > MaxRadios {
		return nil, fmt.Errorf("radio: %d nodes with %d radios: %w: at most %d", c.Nodes, c.Radios, ErrRadios, MaxRadios)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if _, err := os.Stat("/run/lab/token"); err != nil {
		return nil, fmt.Errorf("radio: %w", ErrNotInLab)
	}
	b := &Bed{}
	if err := b.open(ctx, c); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// warm has the kernel make the ciphers that mac80211 needs. Otherwise the first group of a guest waits for several modprobes
// while the lock of all network devices is held, up to nine seconds on a busy machine, and its client gives up meanwhile.
var warm = sync.OnceFunc(func() {
	for _, a := range []unix.SockaddrALG{{Type: "aead", Name: "ccm(aes)"}, {Type: "hash", Name: "cmac(aes)"}, {Type: "aead", Name: "gcm(aes)"}} {
		fd, err := unix.Socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0)
		if err != nil {
			return // without it the first group only takes longer
		}
		_ = unix.Bind(fd, &a)
		_ = unix.Close(fd)
	}
})

func (b *Bed) open(ctx context.Context, c Config) error {
	if _, err := os.Stat("/sys/module/" + module); err == nil {
		return fmt.Errorf("radio: %w: another bed has them", ErrRadios)
	}
	var err error
	if c.Supplicant != "" {
		if _, err := TreeFolder(supplicantTree(c.Supplicant)); err != nil {
			return err
		}
	}
	if b.folder, err = os.MkdirTemp("/run", "radio-"); err != nil {
		return fmt.Errorf("radio: %w", err)
	}
	load := []string{module, fmt.Sprintf("radios=%d", c.Nodes*c.Radios), fmt.Sprintf("channels=%d", c.Channels)}
	if c.NoP2PDevice {
		load = append(load, "support_p2p_device=0")
	}
	if err := run(ctx, "modprobe", load...); err != nil {
		return fmt.Errorf("radio: load radios: %w", err)
	}
	warm()
	all, err := radios()
	if err != nil {
		return err
	}
	if len(all) != c.Nodes*c.Radios {
		return fmt.Errorf("radio: %w: %d came up, not %d", ErrRadios, len(all), c.Nodes*c.Radios)
	}
	if c.LongNames {
		if err := lengthen(ctx, all); err != nil {
			return err
		}
	}
	up, ctx := errgroup.WithContext(ctx)
	for i := range c.Nodes {
		n := &Node{
			Name: "n" + strconv.Itoa(i), Radios: all[i*c.Radios : (i+1)*c.Radios],
			folder: filepath.Join(b.folder, "n"+strconv.Itoa(i)), plain: i >= c.Nodes-c.Plain,
		}
		n.Radio = n.Radios[0]
		if i == 0 && c.System {
			n.system, n.Bus = true, systemBus
		} else {
			n.NetNS, n.Bus = n.Name, "unix:path="+filepath.Join(n.folder, "bus")
			if c.Supplicant != "" && !n.plain {
				n.tree = supplicantTree(c.Supplicant)
			}
		}
		b.Nodes = append(b.Nodes, n)
		up.Go(func() error {
			if err := n.up(ctx); err != nil {
				return fmt.Errorf("radio: node %s: %w", n.Name, err)
			}
			c.Logger.Info("Node is up", "node", n.Name, "ifname", n.Ifname, "bus", n.Bus)
			return nil
		})
	}
	return up.Wait()
}

// Close ends the nodes' processes, everything that was started inside the nodes' namespaces, and removes namespaces and radios.
// It may be called after a failed start, and twice.
func (b *Bed) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyWait)
	defer cancel()
	var errs []error
	for _, n := range b.Nodes {
		errs = append(errs, n.down(ctx))
	}
	// Radios first: they leave their namespaces with the module.
	if _, err := os.Stat("/sys/module/" + module); err == nil && b.folder != "" {
		errs = append(errs, run(ctx, "rmmod", module))
	}
	for _, n := range b.Nodes {
		if n.NetNS != "" && n.made {
			errs = append(errs, run(ctx, "ip", "netns", "del", n.NetNS))
			n.made = false
		}
	}
	b.Nodes = nil
	if b.folder != "" {
		errs = append(errs, os.RemoveAll(b.folder))
		b.folder = ""
	}
	return errors.Join(errs...)
}

// Radio is one simulated radio.
type Radio struct {
	Phy    string // as the kernel numbers it: phy0, ...
	Ifname string // of its Wi-Fi interface
}

// radios lists the simulated radios in the present namespace in the order of their numbers.
func radios() ([]Radio, error) {
	folders, err := filepath.Glob("/sys/class/ieee80211/phy*/device/net/*")
	if err != nil {
		return nil, fmt.Errorf("radio: %w", err)
	}
	var found []Radio
	for _, f := range folders {
		parts := strings.Split(f, "/")
		found = append(found, Radio{Phy: parts[4], Ifname: parts[7]})
	}
	number := func(r Radio) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(r.Phy, "phy"))
		return n
	}
	slices.SortFunc(found, func(a, b Radio) int { return number(a) - number(b) })
	return found, nil
}

// lengthen gives the radios' interfaces the names that systemd gives to USB adapters: wlx and the address, 15 characters, the
// most that a name can have.
func lengthen(ctx context.Context, radios []Radio) error {
	for i, r := range radios {
		link, err := net.InterfaceByName(r.Ifname)
		if err != nil {
			return fmt.Errorf("radio: %w", err)
		}
		name := "wlx" + strings.ReplaceAll(link.HardwareAddr.String(), ":", "")
		if err := run(ctx, "ip", "link", "set", r.Ifname, "name", name); err != nil {
			return fmt.Errorf("radio: %w", err)
		}
		radios[i].Ifname = name
	}
	return nil
}

// run starts a program, and on failure gives back what it said.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
