package wpa

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"nigh/wpa/dbusapi"
)

// configMethods lets peers use a button or a PIN either way; without it they see no button under NetworkManager.
const configMethods = "display keypad virtual_push_button"

// defaultMethods has the effect of the supplicant's empty default, which 2.10 cannot be set back to.
const defaultMethods = "display keypad"

// settings is what the supplicant had before we changed it.
type settings struct {
	owner    dbusapi.Path
	config   dbusapi.Config
	methods  string
	profiles map[dbusapi.Path]bool // persistent groups that were there
	named    bool                  // we gave it a name
	extended bool                  // we gave it vendor extensions
	listened bool                  // we turned extended listening on or off
	created  bool                  // the supplicant has the interface because we asked for it
}

// ready is what prepare found.
type ready struct {
	iface     dbusapi.Interface
	address   net.HardwareAddr
	seat      seat
	before    settings
	crashed   bool    // our settings were in place: an earlier run did not put them back
	shown     Advert  // what others see now
	connected bool    // the owner has a Wi-Fi connection
	refused   []error // settings that this supplicant does not take
	profiles  map[dbusapi.Path]Persistent
	found     snapshot
}

// snapshot is what the supplicant's properties say.
type snapshot struct {
	peers  map[dbusapi.Path]dbusapi.Peer
	ifaces map[dbusapi.Path]dbusapi.Interface
}

// prepare finds the owner of P2P and sets everything that NetworkManager leaves at useless defaults.
func prepare(ctx context.Context, api supplicant, cfg Config, known []Persistent) (ready, error) {
	var r ready
	if _, err := api.Present(ctx); err != nil {
		return r, err
	}
	caps, err := api.Capabilities(ctx)
	if err != nil {
		return r, err
	}
	if !slices.Contains(caps, "p2p") {
		return r, fmt.Errorf("%w: wpa_supplicant was built without P2P", ErrNoP2P)
	}
	if r.iface, r.before.created, err = findOwner(ctx, api, cfg); err != nil {
		return r, err
	}
	owner := r.iface.Path
	r.before.owner = owner
	if r.before.config, err = api.Config(ctx, owner); errors.Is(err, dbusapi.ErrFailed) {
		// The interface could, but P2P went with the one that was added before it.
		return r, fmt.Errorf("%w: %w: %w", ErrNoP2P, ErrP2PEnded, err)
	} else if err != nil {
		return r, fmt.Errorf("%w: %w", ErrNoP2P, err)
	}
	if r.before.methods, err = api.ConfigMethods(ctx, owner); err != nil {
		return r, err
	}
	instance, err := api.Instance(ctx)
	if err != nil {
		return r, err
	}
	earlier, recorded := loadRecord(cfg.Record)
	recorded = recorded && earlier.Owner == owner && earlier.Instance == instance
	r.crashed = r.before.methods == configMethods && (recorded || sameVendor(cfg.Vendor, r.before.config.VendorExtension) ||
		cfg.DeviceName != "" && r.before.config.DeviceName == cfg.DeviceName)
	switch {
	case r.crashed && recorded:
		r.before = earlier.settings()
	case r.crashed:
		// What was there before that run is not known; most supplicants have no configuration at all.
		r.before.config = dbusapi.Config{DeviceType: make([]byte, 8), GOIntent: defaultIntent}
		r.before.methods = ""
	}
	if !r.crashed {
		if r.before.profiles, err = profilePaths(ctx, api, owner); err != nil {
			return r, err
		}
	}
	if err := r.before.recorded(instance).write(cfg.Record); err != nil {
		r.refused = append(r.refused, fmt.Errorf("keep a record of the settings: %w", err))
	}
	r.shown = cfg.advert()
	r.before.named, r.before.extended = cfg.DeviceName != "", len(cfg.Vendor) > 0
	for _, k := range wanted(cfg) {
		err := api.SetConfig(ctx, owner, k)
		if errors.Is(err, dbusapi.ErrInvalidArgs) || errors.Is(err, dbusapi.ErrFailed) {
			r.refused = append(r.refused, err)
		} else if err != nil {
			return r, err
		}
	}
	if err := api.SetConfigMethods(ctx, owner, configMethods); err != nil {
		return r, err
	}
	r.address, r.seat = deviceAddress(r.iface.Ifname), seatOf(r.iface.Ifname)
	if bssid, _, err := api.CurrentBSS(ctx, owner); err == nil {
		r.connected = bssid != nil
	}
	var had map[dbusapi.Path]bool
	if r.profiles, had, err = addProfiles(ctx, api, owner, known, r.address); err != nil {
		return r, err
	}
	if r.before.profiles == nil { // after a crash that left no record: what we know of is ours
		r.before.profiles = had
		for path := range r.profiles {
			delete(had, path)
		}
	}
	if r.found, err = look(ctx, api, owner); err != nil {
		return r, err
	}
	return r, nil
}

// profilePaths are the persistent groups that a supplicant has.
func profilePaths(ctx context.Context, api supplicant, owner dbusapi.Path) (map[dbusapi.Path]bool, error) {
	paths, err := api.PersistentGroups(ctx, owner)
	if err != nil {
		return nil, err
	}
	all := map[dbusapi.Path]bool{}
	for _, p := range paths {
		all[p] = true
	}
	return all, nil
}

// sameVendor reports whether two lists of vendor extensions have one of the same vendor: the name of a device that hides it
// is another one in each run.
func sameVendor(a, b [][]byte) bool {
	return slices.ContainsFunc(a, func(x []byte) bool {
		return slices.ContainsFunc(b, func(y []byte) bool { return len(x) >= 3 && len(y) >= 3 && slices.Equal(x[:3], y[:3]) })
	})
}

// wanted are the settings that we make.
func wanted(cfg Config) []dbusapi.Key {
	keys := []dbusapi.Key{
		dbusapi.DeviceType(cfg.DeviceType[:]),
		dbusapi.GOIntent(cfg.Intent),
		// Who may come back without a question is decided by which profiles we add.
		dbusapi.PersistentReconnect(true),
	}
	if cfg.DeviceName != "" {
		keys = append(keys, dbusapi.DeviceName(cfg.DeviceName))
	}
	if len(cfg.Vendor) > 0 {
		keys = append(keys, dbusapi.VendorExtension(cfg.Vendor))
	}
	if cfg.Pool.IsValid() {
		p := poolOf(cfg.Pool)
		keys = append(keys, dbusapi.AddressOwner(p.owner), dbusapi.AddressMask(p.mask), dbusapi.AddressStart(p.start), dbusapi.AddressEnd(p.end))
	}
	return keys
}

// restore sets back what wanted changed.
func restore(ctx context.Context, api supplicant, cfg Config, b *settings) error {
	var errs []error
	set := func(k dbusapi.Key) { errs = append(errs, api.SetConfig(ctx, b.owner, k)) }
	if len(b.config.DeviceType) == 8 {
		set(dbusapi.DeviceType(b.config.DeviceType))
	}
	set(dbusapi.GOIntent(int(b.config.GOIntent)))
	set(dbusapi.PersistentReconnect(b.config.PersistentReconnect))
	if b.named {
		set(dbusapi.DeviceName(b.config.DeviceName))
	}
	if b.extended {
		set(dbusapi.VendorExtension(b.config.VendorExtension))
	}
	if cfg.Pool.IsValid() {
		set(dbusapi.AddressOwner(b.config.Owner))
		set(dbusapi.AddressMask(b.config.Mask))
		set(dbusapi.AddressStart(b.config.Start))
		set(dbusapi.AddressEnd(b.config.End))
	}
	if b.listened {
		errs = append(errs, api.ExtendedListen(ctx, b.owner, 0, 0))
	}
	methods := b.methods
	if methods == "" {
		methods = defaultMethods
	}
	errs = append(errs, api.SetConfigMethods(ctx, b.owner, methods))
	if b.created {
		errs = append(errs, api.RemoveInterface(ctx, b.owner))
	}
	return errors.Join(errs...)
}

// pool is how a subnet is shared out: .1 is the group owner, .2 to .9 are for the handshake, and what follows is left to
// a DHCP server for clients that cannot take an address from the handshake.
type pool struct{ owner, mask, start, end netip.Addr }

func poolOf(p netip.Prefix) pool {
	base := p.Masked().Addr().As4()
	at := func(n byte) netip.Addr {
		a := base
		a[3] += n
		return netip.AddrFrom4(a)
	}
	return pool{at(1), netip.AddrFrom4([4]byte(net.CIDRMask(p.Bits(), 32))), at(2), at(9)}
}

// findOwner finds the interface that owns P2P: the configured one, else of those that can the one whose radio the kernel shows
// a P2P device of, else the first that was added. It is wrong only where a supplicant lost its first interface and got another,
// and the kernel shows no P2P device: then nothing tells which one owns P2P.
func findOwner(ctx context.Context, api supplicant, cfg Config) (dbusapi.Interface, bool, error) {
	var none dbusapi.Interface
	list, err := api.Interfaces(ctx)
	if err != nil {
		return none, false, err
	}
	// Numbers grow with the order in which interfaces were added.
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return number(a) < number(b)
	})
	var able []dbusapi.Interface
	var ifnames []string
	named, cannot := -1, ""
	for _, p := range list {
		i, err := api.Interface(ctx, p)
		if errors.Is(err, dbusapi.ErrUnknownObject) || err == nil && i.IsGroup() {
			continue
		}
		if err != nil {
			return none, false, err
		}
		if i.P2P {
			if i.Ifname == cfg.Ifname {
				named = len(able)
			}
			able, ifnames = append(able, i), append(ifnames, i.Ifname)
		} else if cfg.Ifname == "" || i.Ifname == cfg.Ifname {
			cannot = i.Ifname
		}
	}
	holder := p2pHolder(ifnames)
	switch {
	case named >= 0 && holder >= 0 && holder != named:
		return none, false, fmt.Errorf("%w on %s: it is on %s", ErrNoP2P, cfg.Ifname, ifnames[holder])
	case named >= 0:
		return able[named], false, nil
	case cfg.Ifname == "" && len(able) > 0:
		return able[max(0, holder)], false, nil
	case cannot != "":
		return none, false, fmt.Errorf("%w: %s offers no P2P", ErrNoP2P, cannot)
	}
	i, err := createOwner(ctx, api, cfg)
	return i, err == nil, err
}

func number(p dbusapi.Path) int {
	n, _ := strconv.Atoi(string(p[strings.LastIndexByte(string(p), '/')+1:]))
	return n
}

// createOwner gives the supplicant a Wi-Fi interface that nobody manages.
func createOwner(ctx context.Context, api supplicant, cfg Config) (dbusapi.Interface, error) {
	var none dbusapi.Interface
	ifname := cfg.Ifname
	for _, name := range []string{nameNM, nameIWD} {
		if name == nameNM && cfg.unmanaged {
			continue
		}
		if has, err := api.HasOwner(ctx, name); err != nil || has {
			return none, errors.Join(err, ErrNoInterface)
		}
	}
	if ifname == "" {
		cards, _ := filepath.Glob("/sys/class/net/*/phy80211")
		if len(cards) == 0 {
			return none, ErrNoInterface
		}
		ifname = filepath.Base(filepath.Dir(cards[0]))
	}
	if _, err := os.Stat("/sys/class/net/" + ifname); err != nil {
		return none, fmt.Errorf("%w: %s is not there", ErrNoInterface, ifname)
	}
	if _, err := os.Stat("/run/wpa_supplicant/" + ifname); err == nil {
		return none, fmt.Errorf("%w: another wpa_supplicant has %s", ErrNoInterface, ifname)
	}
	p, err := api.CreateInterface(ctx, ifname)
	if err != nil {
		return none, fmt.Errorf("%w: %w", ErrNoInterface, err)
	}
	i, err := api.Interface(ctx, p)
	if err == nil && !i.P2P {
		err = fmt.Errorf("%w: %s offers no P2P", ErrNoP2P, ifname)
	}
	if err != nil {
		ignore(api.RemoveInterface(ctx, p))
	}
	return i, err
}

// look reads peers and interfaces.
func look(ctx context.Context, api supplicant, owner dbusapi.Path) (snapshot, error) {
	s := snapshot{peers: map[dbusapi.Path]dbusapi.Peer{}, ifaces: map[dbusapi.Path]dbusapi.Interface{}}
	peers, err := api.Peers(ctx, owner)
	if err != nil {
		return s, err
	}
	for _, p := range peers {
		if v, err := api.Peer(ctx, p); err == nil {
			s.peers[p] = v
		}
	}
	ifaces, err := api.Interfaces(ctx)
	if err != nil {
		return s, err
	}
	for _, p := range ifaces {
		if v, err := api.Interface(ctx, p); err == nil {
			s.ifaces[p] = v
		}
	}
	return s, nil
}
