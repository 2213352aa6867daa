package discovery

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// DefaultServiceType is the service type of nigh.
const DefaultServiceType = "_nigh._tcp"

// Config configures a [Discovery].
type Config struct {
	Logger      *slog.Logger // nil discards
	Instance    string       // what the user calls the device; up to 40 bytes of it are announced
	ShortID     string       // makes the instance and host names unique, such as "7Q4K-M2XD"; empty makes up a random one
	Port        uint16       // TCP port of the service; must not be 0 unless NoPublish
	TXT         []string     // such as "v=1"; each at most 255 bytes, together at most 1024; unchangeable while it runs
	ServiceType string       // "" is DefaultServiceType
	NoPublish   bool         // browse only
}

// ErrConfig says that a [Config] cannot be announced.
var ErrConfig = errors.New("cannot be announced")

// Interface is one link to announce and look on.
type Interface struct {
	Index    int // ifindex
	Name     string
	Prefixes []netip.Prefix // its usable addresses with their prefix lengths
}

func (i Interface) equal(o Interface) bool {
	return i.Index == o.Index && i.Name == o.Name && slices.Equal(i.Prefixes, o.Prefixes)
}

// has says whether the link has an address of a family.
func (i Interface) has(v6 bool) bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr().Is6() == v6 })
}

// onLink says whether an address is that of a neighbour on this link.
func (i Interface) onLink(a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return i.has(true)
	}
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool {
		if p.Addr().Is6() && p.Bits() == 128 {
			// DHCPv6 gives addresses without their network.
			p = netip.PrefixFrom(p.Addr(), 64)
		}
		return p.Contains(a)
	})
}

func (i Interface) own(a netip.Addr) bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr() == a })
}

// InterfaceStatus tells how discovery does on one link.
type InterfaceStatus struct {
	Index      int
	Name       string
	IPv4, IPv6 bool   // which families it listens on
	Publishing bool   // our service is announced
	Instances  int    // instances of other devices in the cache
	Accepted   uint64 // packets taken
	Dropped    uint64 // packets not taken: damaged, not from the link, or not by RFC 6762 11
	Error      string // why it does not work; it is tried again
}

// Discovery announces one service and looks for others of its type. Create it with [New], then call Run once.
type Discovery struct {
	logger  *slog.Logger
	config  Config
	service string // "_nigh._tcp.local."
	name    string // our instance name in printed form; "" when not publishing
	host    string // "nigh-7q4k-m2xd.local."
	queue   *queue
	events  chan Event
	poke    chan struct{} // capacity 1: wanted differs

	mu     sync.Mutex
	wanted []Interface             // guarded by mu
	status map[int]InterfaceStatus // guarded by mu
}

// New checks the configuration and returns a Discovery that does nothing until Run. The error wraps ErrConfig.
func New(c Config) (*Discovery, error) {
	if c.ServiceType == "" {
		c.ServiceType = DefaultServiceType
	}
	d := &Discovery{
		logger: c.Logger, config: c, service: c.ServiceType + ".local.",
		queue: newQueue(), events: make(chan Event), poke: make(chan struct{}, 1), status: map[int]InterfaceStatus{},
	}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	if err := checkType(c.ServiceType); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if c.NoPublish {
		return d, nil
	}
	if c.ShortID == "" {
		c.ShortID = rand.Text()[:8]
	}
	if err := d.announce(c); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	return d, nil
}

func checkType(t string) error {
	service, ok := strings.CutSuffix(t, "._tcp")
	if !ok {
		service, ok = strings.CutSuffix(t, "._udp")
	}
	// RFC 6335 5.1.
	if !ok || len(service) < 2 || len(service) > 16 || service[0] != '_' || strings.Trim(service[1:], "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("service type %q: %w", t, ErrConfig)
	}
	return nil
}

// announce makes the names that are published.
func (d *Discovery) announce(c Config) error {
	id := strings.ToLower(c.ShortID)
	if len(id) > 16 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("short ID %q: %w", c.ShortID, ErrConfig)
	}
	if c.Port == 0 {
		return fmt.Errorf("port 0: %w", ErrConfig)
	}
	total := 0
	for _, s := range c.TXT {
		total += len(s) + 1
		if s == "" || len(s) > 255 || total > txtMaxBytes {
			return fmt.Errorf("TXT string of %d bytes: %w", len(s), ErrConfig)
		}
	}
	d.config.TXT = make([]string, 0, len(c.TXT))
	for _, s := range c.TXT {
		d.config.TXT = append(d.config.TXT, escapeTXT(s))
	}
	if len(c.TXT) == 0 {
		// RFC 6763 6.1: a TXT record has at least one string.
		d.config.TXT = []string{""}
	}
	d.config.Instance = instanceLabel(c.Instance, c.ShortID)
	d.name = escapeLabel(d.config.Instance) + "." + d.service
	d.host = "nigh-" + id + ".local."
	return nil
}

// Name returns the label under which this device is announced, or "" when it is not.
func (d *Discovery) Name() string {
	if d.name == "" {
		return ""
	}
	return d.config.Instance
}

// Events returns what was found, changed and lost. A slow reader holds nobody up: what it did not take in time it gets as
// the difference to what it was told last. Our own announcements are never in it. The channel is closed when Run returns.
func (d *Discovery) Events() <-chan Event { return d.events }

// SetInterfaces names the links to use from now on. On a new one the service is announced and looked for at once; what
// was known on one that is gone is reported as Gone at once; on one whose addresses differ the new ones are announced and the
// old ones withdrawn, without the instance seeming to go. It may be called before and during Run, from any goroutine.
func (d *Discovery) SetInterfaces(list []Interface) {
	copied := slices.Clone(list)
	for i := range copied {
		copied[i].Prefixes = slices.Clone(copied[i].Prefixes)
	}
	d.mu.Lock()
	d.wanted = copied
	d.mu.Unlock()
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// Status returns how discovery does on each link, sorted by index.
func (d *Discovery) Status() []InterfaceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Values(d.status), func(a, b InterfaceStatus) int { return cmp.Compare(a.Index, b.Index) })
}

func (d *Discovery) setStatus(s InterfaceStatus) {
	d.mu.Lock()
	d.status[s.Index] = s
	d.mu.Unlock()
}

// running is the goroutine of one link.
type running struct {
	ifi    Interface
	update chan Interface // capacity 1, the latest
	stop   context.CancelFunc
	quiet  chan struct{} // closed when it has said its last about instances; its goodbyes may still be under way
}

// Run works until ctx ends, then withdraws the service from all links, which takes about 0.3 s, and returns nil. Links that
// fail are tried again and shown in Status.
func (d *Discovery) Run(ctx context.Context) error {
	defer close(d.events)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { d.queue.deliver(ctx, d.events) })

	links := map[int]*running{}
	for {
		select {
		case <-ctx.Done():
			// The links see it too, and say goodbye side by side.
			for _, r := range links {
				r.stop()
			}
			return nil
		case <-d.poke:
		}
		d.mu.Lock()
		wanted := map[int]Interface{}
		for _, ifi := range d.wanted {
			wanted[ifi.Index] = ifi
		}
		d.mu.Unlock()
		d.reconcile(ctx, &wg, links, wanted)
	}
}

// reconcile starts, stops and updates the goroutines of links. It does not wait for a Server to shut down.
func (d *Discovery) reconcile(ctx context.Context, wg *sync.WaitGroup, links map[int]*running, wanted map[int]Interface) {
	for index, r := range links {
		// A link that was renamed is another one to whoever reads zones.
		if ifi, ok := wanted[index]; ok && ifi.Name == r.ifi.Name {
			continue
		}
		r.stop()
		<-r.quiet
		delete(links, index)
		d.mu.Lock()
		delete(d.status, index)
		d.mu.Unlock()
	}
	for index, ifi := range wanted {
		r := links[index]
		if r == nil {
			linkCtx, stop := context.WithCancel(ctx)
			r = &running{ifi: ifi, update: make(chan Interface, 1), stop: stop, quiet: make(chan struct{})}
			links[index] = r
			l := newLink(d, ifi)
			wg.Go(func() {
				l.run(linkCtx, r.update)
				close(r.quiet)
				// Without the service's stop it is the link that is gone, and nobody is left to say goodbye to.
				l.close(ctx.Err() != nil)
			})
			continue
		}
		if r.ifi.equal(ifi) {
			continue
		}
		r.ifi = ifi
		select {
		case <-r.update:
		default:
		}
		r.update <- ifi
	}
}

// RedirectLog sends what the zeroconf library prints through the standard logger to logger, at debug level; without it the
// library writes into the terminal. It sets the default logger of the whole process, so it is for programs, and only once.
func RedirectLog(logger *slog.Logger) {
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(logger)
}

// until is a timer channel, nil for the zero time.
func until(at time.Time) <-chan time.Time {
	if at.IsZero() {
		return nil
	}
	return time.After(time.Until(at))
}
