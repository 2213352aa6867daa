package link

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	bookName     = "links.json"
	bookMaxBytes = 1 << 20
)

// entry is what we did to one link. It is written before the link is touched, so it may name more than was done, never less.
type entry struct {
	Boot      string         `json:"boot"`  // the kernel's boot_id: after a reboot there is nothing to undo
	NetNS     uint64         `json:"netns"` // inode of the network namespace
	Index     int            `json:"index"`
	Ifname    string         `json:"ifname"`
	Addresses []netip.Prefix `json:"addresses,omitempty"` // added by us
	Settings  []setting      `json:"settings,omitempty"`  // changed by us
	BroughtUp bool           `json:"brought_up,omitempty"`
}

// setting is a value under /proc/sys/net before we changed it.
type setting struct {
	Family string `json:"family"`
	Key    string `json:"key"`
	Old    string `json:"old"`
	New    string `json:"new"`
}

// Book records, on disk, what this package changed on links. Create it with [OpenBook]; it needs no closing, and its
// methods are safe for concurrent use. One process at a time may use a folder.
type Book struct {
	path     string
	setAside string

	mu      sync.Mutex
	entries []entry // guarded by mu; at most one per link and namespace
}

// OpenBook reads the book kept in the folder dir, which must exist. A book that cannot be understood is renamed, see
// [Book.SetAside], and an empty one is begun.
func OpenBook(dir string) (*Book, error) {
	b := &Book{path: filepath.Join(dir, bookName)}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("link: book: %w", err)
	}
	f, err := os.Open(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("link: book: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, bookMaxBytes))
	if err != nil {
		return nil, fmt.Errorf("link: book: %w", err)
	}
	if json.Unmarshal(raw, &b.entries) == nil && !slices.ContainsFunc(b.entries, entry.bad) {
		return b, nil
	}
	b.entries = nil
	b.setAside = b.path + ".damaged"
	if err := os.Rename(b.path, b.setAside); err != nil {
		return nil, fmt.Errorf("link: set the damaged book aside: %w", err)
	}
	return b, nil
}

// bad says that an entry was not written by us: its strings become file names under /proc/sys/net, its addresses requests to the
// kernel.
func (e entry) bad() bool {
	return e.Index <= 0 || !plain(e.Ifname) || slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return !p.IsValid() }) || slices.ContainsFunc(e.Settings, func(s setting) bool {
		return s.Family != "ipv4" && s.Family != "ipv6" || !plain(s.Key)
	})
}

func plain(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
}

// SetAside returns where a damaged book was moved by [OpenBook], or "".
func (b *Book) SetAside() string { return b.setAside }

// Cleanup removes what a run that ended without [GroupLink.Close] left on links: only what that run added, and only on
// links that still exist. Links that are gone, and records from before a reboot, are forgotten. Call it once, before
// [Book.EnsureGroup].
func (b *Book) Cleanup() error {
	here, err := place()
	if err != nil {
		return fmt.Errorf("link: cleanup: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var left []entry
	var errs []error
	for _, e := range b.entries {
		if e.Boot != here.Boot || e.NetNS != here.NetNS {
			continue
		}
		if err := e.undo(); err != nil {
			left = append(left, e)
			errs = append(errs, fmt.Errorf("link: clean up %s: %w", e.Ifname, err))
		}
	}
	b.entries = left
	return errors.Join(append(errs, b.save())...)
}

// place returns an entry that names this boot and network namespace.
func place() (entry, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return entry{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return entry{}, err
	}
	return entry{Boot: strings.TrimSpace(string(boot)), NetNS: st.Ino}, nil
}

// save writes the book whole, under another name first. The caller holds mu.
func (b *Book) save() error {
	if len(b.entries) == 0 {
		if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("link: book: %w", err)
		}
		return nil
	}
	raw, err := json.MarshalIndent(b.entries, "", "  ")
	if err != nil {
		return fmt.Errorf("link: book: %w", err)
	}
	if err := writeFile(b.path, append(raw, '\n')); err != nil {
		return fmt.Errorf("link: book: %w", err)
	}
	return nil
}

// writeFile replaces a file so that a crash leaves the old or the new one. It is not synced: after a power cut the records
// describe links that no longer exist.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// put replaces the record of a link, or adds it.
func (b *Book) put(e entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = append(slices.DeleteFunc(b.entries, e.sameLink), e)
	return b.save()
}

// drop forgets a link.
func (b *Book) drop(e entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = slices.DeleteFunc(b.entries, e.sameLink)
	return b.save()
}

// find returns the record of a link.
func (b *Book) find(e entry) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.entries, e.sameLink)
	if i < 0 {
		return e, false
	}
	return b.entries[i], true
}

func (e entry) sameLink(o entry) bool {
	return e.Index == o.Index && e.Boot == o.Boot && e.NetNS == o.NetNS
}

// private is the routing of one of the entry's IPv4 addresses.
func (e entry) private(p netip.Prefix) private {
	return private{index: e.Index, ifname: e.Ifname, prefix: p}
}

// withdraw takes an address of ours off the link, with its routing.
func (e entry) withdraw(l netlink.Link, p netip.Prefix) error {
	var err error
	if p.Addr().Is4() {
		err = e.private(p).remove()
	}
	return errors.Join(err, unlessGone(unless(netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}), unix.EADDRNOTAVAIL)))
}

// undo puts the link back as it was. Of a link that is gone only the rules of its routing are left.
func (e entry) undo() error {
	l, err := netlink.LinkByIndex(e.Index)
	if err != nil {
		errs := []error{unlessGone(err)}
		for _, p := range e.Addresses {
			if p.Addr().Is4() {
				errs = append(errs, e.private(p).remove())
			}
		}
		return denied(errors.Join(errs...))
	}
	var errs []error
	for _, p := range e.Addresses {
		errs = append(errs, e.withdraw(l, p))
	}
	// The name may differ from the one in the record.
	ifname := l.Attrs().Name
	for _, s := range slices.Backward(e.Settings) {
		// What somebody else set since then is theirs.
		if now, err := sysctl(s.Family, ifname, s.Key); err != nil || now != s.New {
			continue
		}
		errs = append(errs, unlessGone(setSysctl(s.Family, ifname, s.Key, s.Old)))
	}
	if e.BroughtUp {
		errs = append(errs, unlessGone(netlink.LinkSetDown(l)))
	}
	return errors.Join(errs...)
}

// unlessGone returns nil when err says that the link no longer exists.
func unlessGone(err error) error {
	if gone(err) {
		return nil
	}
	return denied(err)
}

func gone(err error) bool {
	var nf netlink.LinkNotFoundError
	return errors.As(err, &nf) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) || errors.Is(err, fs.ErrNotExist)
}

func denied(err error) error {
	// A sandbox may leave the capability and make /proc/sys read-only.
	refused := errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS)
	if refused && !errors.Is(err, ErrDenied) {
		return fmt.Errorf("%w (%w)", ErrDenied, err)
	}
	return err
}
