package wpa

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"nigh/wpa/dbusapi"
)

// Engine names a way to a wpa_supplicant that may form groups.
type Engine string

// The engines. See Choose for which is taken when.
const (
	// EngineSystem is the system's wpa_supplicant on the system bus.
	EngineSystem Engine = "system"
	// EnginePrivate is a wpa_supplicant of our own, on a bus of our own, for an adapter that no other program uses. It can
	// all that EngineSystem can.
	EnginePrivate Engine = "private"
	// EngineNetworkManager has NetworkManager form the groups, on the system's wpa_supplicant. It has Limits.
	EngineNetworkManager Engine = "networkmanager"
)

// Engines are all engines, in the order of preference.
var Engines = []Engine{EngineSystem, EnginePrivate, EngineNetworkManager}

// Choice is an engine and why it is the one.
type Choice struct {
	Engine Engine
	Ifname string // interface that it is for; empty = whatever the supplicant has
	Why    string // one sentence
	Fix    string // one thing to do that would give a better engine; empty = nothing

	unmanaged bool // NetworkManager is there and was asked: Ifname, or with none every radio, is not its own
}

// surroundings is what the choice of an engine depends on.
type surroundings struct {
	busErr    error    // the system bus cannot be used
	nm        bool     // NetworkManager is on the bus
	asked     bool     // NetworkManager said what it manages
	managed   []string // Wi-Fi interfaces that NetworkManager manages
	denied    bool     // the system's wpa_supplicant may not be asked
	owns      []string // interfaces of the system's wpa_supplicant
	free      []string // Wi-Fi interfaces that no program uses, with a radio that can do P2P
	policy    string   // file that keeps GroupStarted from NetworkManager; empty = none
	killed    bool     // NetworkManager removed a group all the same
	root      bool     // this process is root's: what the policy keeps from root it keeps from us
	permitted bool     // NetworkManager lets us make connections
	privately error    // why EnginePrivate cannot be used here, apart from adapters
}

// Choose finds out which engine a Radio with this configuration would use. It blocks for the answers of the bus, of
// NetworkManager and of the kernel, each limited, and changes nothing.
//
//   - Where NetworkManager does not manage the radio: EngineSystem.
//   - Where it does and our D-Bus policy keeps it from removing groups: EngineSystem.
//   - Where it does, and another adapter is free: EnginePrivate on that.
//   - Where it does, and lets us make connections: EngineNetworkManager.
//   - Else EngineSystem, of which NetworkManager will remove the groups; Fix says what to do.
//
// Config.Engine overrides that. ErrEngine then means that the engine asked for cannot be used here, and why.
func Choose(ctx context.Context, cfg Config) (Choice, error) {
	return choose(survey(ctx, cfg), cfg)
}

func choose(s surroundings, cfg Config) (Choice, error) {
	private := func(why string) Choice { return Choice{Engine: EnginePrivate, Ifname: adapter(s, cfg), Why: why} }
	system := func(why, fix string) Choice {
		return Choice{Engine: EngineSystem, Ifname: cfg.Ifname, Why: why, Fix: fix}
	}
	switch cfg.Engine {
	case "":
	case EngineSystem:
		return system("The configuration says so.", ""), nil
	case EnginePrivate:
		switch {
		case s.privately != nil:
			return Choice{}, fmt.Errorf("%w: %w", ErrEngine, s.privately)
		case adapter(s, cfg) == "":
			return Choice{}, fmt.Errorf("%w: no Wi-Fi adapter is free for a wpa_supplicant of nigh's own", ErrEngine)
		}
		return private("The configuration says so."), nil
	case EngineNetworkManager:
		if len(s.managed) == 0 {
			return Choice{}, fmt.Errorf("%w: NetworkManager manages no Wi-Fi here", ErrEngine)
		}
		return manager(s, "The configuration says so."), nil
	default:
		return Choice{}, fmt.Errorf("%w: unknown engine %q", ErrConfig, string(cfg.Engine))
	}
	own := s.privately == nil && adapter(s, cfg) != ""
	switch {
	case s.busErr != nil && own:
		return private("There is no system bus, and " + adapter(s, cfg) + " is free."), nil
	case s.busErr != nil:
		return system("There is no other.", ""), nil
	case s.denied && own:
		return private("The D-Bus policy keeps the system's wpa_supplicant from nigh, and " + adapter(s, cfg) + " is free."), nil
	case !s.nm:
		return system("NetworkManager does not use this machine's bus.", ""), nil
	case len(s.managed) == 0 && len(s.owns) == 0 && !s.root && own:
		return private("NetworkManager leaves " + adapter(s, cfg) + " alone, and so does the system's wpa_supplicant."), nil
	case len(s.managed) == 0:
		c := system("NetworkManager manages no Wi-Fi here.", "")
		if len(s.owns) == 0 {
			// One that is not free yet, because NetworkManager has just let go of it, will be.
			c.Ifname = cmp.Or(adapter(s, cfg), cfg.Ifname)
			c.unmanaged = s.asked
		}
		return c, nil
	case s.policy != "" && !s.root && !s.killed:
		return system("NetworkManager manages the radio, and "+s.policy+" keeps it from removing groups.", ""), nil
	case own:
		return private("NetworkManager manages " + s.managed[0] + ", and " + adapter(s, cfg) + " is free."), nil
	case s.policy != "" && s.root:
		return system("NetworkManager manages the radio, and the policy that keeps it from removing groups keeps them from root, too.",
			"Run nigh as a user, not as root: `sudo systemctl enable --now nigh@USER`."), nil
	case s.permitted:
		return manager(s, "NetworkManager manages "+s.managed[0]+" and removes groups that it did not make, so it is asked to make them."), nil
	default:
		return system("NetworkManager manages the radio and removes every group that it did not make.", Hint(ErrKilledByNetworkManager)), nil
	}
}

func manager(s surroundings, why string) Choice {
	return Choice{Engine: EngineNetworkManager, Ifname: s.managed[0], Why: why, Fix: Hint(ErrLimited)}
}

// adapter is the interface that EnginePrivate would take: the one that was asked for, if any.
func adapter(s surroundings, cfg Config) string {
	for _, name := range s.free {
		if cfg.Ifname == "" || name == cfg.Ifname {
			return name
		}
	}
	return ""
}

// engine is a way to a supplicant.
type engine interface {
	// dial starts what the engine needs and connects. It is called once.
	dial(ctx context.Context, cfg Config) (supplicant, error)
	// lost returns a channel that is closed when the engine is of no more use; nil when that shows at the connection.
	lost() <-chan struct{}
	// close ends what dial started and waits for it. The connection is closed before.
	close()
}

func newEngine(c Choice) engine {
	switch c.Engine {
	case EnginePrivate:
		return &privateEngine{}
	case EngineNetworkManager:
		return &managerEngine{}
	}
	return systemEngine{}
}

// systemEngine is the system's wpa_supplicant.
type systemEngine struct{}

func (systemEngine) dial(ctx context.Context, cfg Config) (supplicant, error) {
	return dialBus(ctx, cfg.Bus)
}

func (systemEngine) lost() <-chan struct{} { return nil }

func (systemEngine) close() {}

// limits are those of an engine.
func (e Engine) limits() Limits {
	if e == EngineNetworkManager {
		return managerLimits
	}
	return Limits{}
}

// dialBus connects to a bus and puts what goes wrong into this package's terms.
func dialBus(ctx context.Context, address string) (*dbusapi.Client, error) {
	c, err := dbusapi.Dial(ctx, address)
	if err != nil && !errors.Is(err, dbusapi.ErrDenied) {
		return nil, fmt.Errorf("%w: %w", ErrNoBus, err)
	}
	return c, err
}
