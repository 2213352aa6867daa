package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sort"
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
	TXT         []string     // such as "v=1"; each at most 255 bytes, together at most 1024; see SetTXT
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
	queue   *queue
	events  chan Event
	poke    chan struct{} // capacity 1: wanted differs

	mu        sync.Mutex
	wanted    []Interface             // guarded by mu
	said      said                    // what is announced; guarded by mu
	status    map[int]InterfaceStatus // guarded by mu
	addresses ownAddresses            // guarded by mu
}

// New checks the configuration and returns a Discovery that does nothing until Run. The error wraps ErrConfig.
func New(c Config) (*Discovery, error) {
	if c.ServiceType == "" {
		c.ServiceType = DefaultServiceType
	}
	d := &Discovery{
		logger: c.Logger, config: c, service: c.ServiceType + ".local.",
		queue: newQueue(), events: make(chan Event), poke: make(chan struct{}, 1), status: map[int]InterfaceStatus{},
		addresses: ownAddresses{until: map[netip.Addr]time.Time{}},
	}
	if d.logger == nil {
		d.logger = slog.New(slog.DiscardHandler)
	}
	if err := checkType(c.ServiceType); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	var err error
	if d.said, err = d.say(c); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	return d, nil
}

// said is what is announced of our service; its zero value is nothing. It is replaced, never changed.
type said struct {
	instance string   // our label
	name     string   // our instance name in printed form; "" when not publishing
	host     string   // "nigh-7q4k-m2xd.local."
	txt      []string // as the Server wants it
}

func (s said) equal(o said) bool {
	return s.name == o.name && s.host == o.host && slices.Equal(s.txt, o.txt)
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

// say makes the names and the record that are published.
func (d *Discovery) say(c Config) (said, error) {
	if c.NoPublish {
		return said{}, nil
	}
	if c.ShortID == "" {
		c.ShortID = rand.Text()[:8]
	}
	id := strings.ToLower(c.ShortID)
	if len(id) > 16 || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return said{}, fmt.Errorf("short ID %q: %w", c.ShortID, ErrConfig)
	}
	if d.config.Port == 0 {
		return said{}, fmt.Errorf("port 0: %w", ErrConfig)
	}
	txt, err := serverTXT(c.TXT)
	if err != nil {
		return said{}, err
	}
	instance := instanceLabel(c.Instance, c.ShortID)
	return said{instance: instance, name: escapeLabel(instance) + "." + d.service, host: "nigh-" + id + ".local.", txt: txt}, nil
}

// Announce announces from now on what c says, under other names or not at all: Instance, ShortID, TXT and NoPublish of it count.
// The old names are withdrawn; to others the service under the new ones is another instance, which they hear of before the old
// one is gone for them. On links that SetInterfaces names later only the new names are used. The error wraps ErrConfig. It may be
// called before and during Run, from any goroutine.
func (d *Discovery) Announce(c Config) error {
	fresh, err := d.say(c)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	d.mu.Lock()
	d.said = fresh
	d.mu.Unlock()
	d.wake()
	return nil
}

// serverTXT writes the strings of a TXT record as the Server wants them.
func serverTXT(strings []string) ([]string, error) {
	total := 0
	out := make([]string, 0, len(strings))
	for _, s := range strings {
		total += len(s) + 1
		if s == "" || len(s) > 255 || total > txtMaxBytes {
			return nil, fmt.Errorf("TXT string of %d bytes: %w", len(s), ErrConfig)
		}
		out = append(out, escapeTXT(s))
	}
	if len(out) == 0 {
		// RFC 6763 6.1: a TXT record has at least one string.
		out = []string{""}
	}
	return out, nil
}

// SetTXT announces another TXT record from now on, under the rules of Config.TXT; the error wraps ErrConfig. The others see the
// record change and never the instance go. It may be called before and during Run, from any goroutine.
func (d *Discovery) SetTXT(txt []string) error {
	fresh, err := serverTXT(txt)
	if err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	d.mu.Lock()
	d.said.txt = fresh
	d.mu.Unlock()
	d.wake()
	return nil
}

func (d *Discovery) wake() {
	select {
	case d.poke <- struct{}{}:
	default:
	}
}

// Name returns the label under which this device is announced, or "" when it is not.
func (d *Discovery) Name() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.said.instance
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
	now := time.Now()
	d.mu.Lock()
	for _, ifi := range slices.Concat(d.wanted, copied) {
		for _, p := range ifi.Prefixes {
			d.addresses.keep(now, p.Addr())
		}
	}
	d.wanted = copied
	d.mu.Unlock()
	d.wake()
}

// Status returns how discovery does on each link, sorted by index.
func (d *Discovery) Status() []InterfaceStatus {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]InterfaceStatus, 0, len(d.status))
	for _, s := range d.status {
		all = append(all, s)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Index < all[j].Index })
	return all
}

func (d *Discovery) setStatus(s InterfaceStatus) {
	d.mu.Lock()
	d.status[s.Index] = s
	d.mu.Unlock()
}

// linkState is what a link's goroutine is told.
type linkState struct {
	Interface
	said
	renamed chan struct{} // closed once the names of before are used no more; nil when they are the same
}

func (s linkState) equal(o linkState) bool {
	return s.Interface.equal(o.Interface) && s.said.equal(o.said)
}

// running is the goroutine of one link.
type running struct {
	state  linkState
	update chan linkState // capacity 1, the latest
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
		wanted := map[int]linkState{}
		for _, ifi := range d.wanted {
			wanted[ifi.Index] = linkState{Interface: ifi, said: d.said}
		}
		d.mu.Unlock()
		d.reconcile(ctx, &wg, links, wanted)
	}
}

// reconcile starts, stops and updates the goroutines of links. It waits for a Server to shut down only where names change: while it
// lives it answers on links that are new, too.
func (d *Discovery) reconcile(ctx context.Context, wg *sync.WaitGroup, links map[int]*running, wanted map[int]linkState) {
	for index, r := range links {
		// A link that was renamed is another one to whoever reads zones.
		if state, ok := wanted[index]; ok && state.Name == r.state.Name {
			continue
		}
		r.stop()
		<-r.quiet
		delete(links, index)
		d.mu.Lock()
		delete(d.status, index)
		d.mu.Unlock()
	}
	for index, state := range wanted {
		r := links[index]
		if r == nil || r.state.equal(state) {
			continue
		}
		if r.state.name != state.name {
			state.renamed = make(chan struct{})
		}
		r.state = state
		select {
		case <-r.update:
		default:
		}
		r.update <- state
	}
	for _, r := range links {
		if r.state.renamed != nil {
			select {
			case <-r.state.renamed:
			case <-ctx.Done():
			}
		}
	}
	for index, state := range wanted {
		if links[index] == nil {
			linkCtx, stop := context.WithCancel(ctx)
			r := &running{state: state, update: make(chan linkState, 1), stop: stop, quiet: make(chan struct{})}
			links[index] = r
			l := newLink(d, state)
			wg.Go(func() {
				l.run(linkCtx, r.update)
				close(r.quiet)
				// Without the service's stop it is the link that is gone, and nobody is left to say goodbye to.
				l.close(ctx.Err() != nil)
			})
		}
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
