package radio

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// CellEnv is the environment variable that says on which cell of the matrix the tests run. See [ParseCell].
const CellEnv = "NIGH_LAB_CELL"

// ErrCell says that a cell's name is none.
var ErrCell = errors.New("no such cell of the matrix")

// Cell is what differs between the machines that Wi-Fi Direct must work on. The zero value is the default cell: radios with
// a P2P device that can be on one channel, short interface names and the host's own wpa_supplicant.
type Cell struct {
	NoP2PDevice bool // as the radios that run P2P on the Wi-Fi interface itself
	Channels    int  // that a radio can be on at once, 1 or 2; 0 = 1
	LongNames   bool // interface names of 15 characters, as USB adapters get on Debian
	// Supplicant is the version of wpa_supplicant: "" = the host's own, "2.11" = from the tree of that name, with which the guest
	// must have been booted.
	Supplicant string
}

// ParseCell reads a cell's name: "default", or settings with commas between them out of p2pdevice=off, channels=2, names=long
// and supplicant=2.11.
func ParseCell(name string) (Cell, error) {
	var c Cell
	if name == "" || name == "default" {
		return c, nil
	}
	for setting := range strings.SplitSeq(name, ",") {
		switch setting {
		case "p2pdevice=off":
			c.NoP2PDevice = true
		case "channels=2":
			c.Channels = 2
		case "names=long":
			c.LongNames = true
		case "supplicant=2.11":
			c.Supplicant = "2.11"
		default:
			return Cell{}, fmt.Errorf("radio: %w: %q in %q", ErrCell, setting, name)
		}
	}
	return c, nil
}

// String is the name that ParseCell reads.
func (c Cell) String() string {
	var settings []string
	if c.NoP2PDevice {
		settings = append(settings, "p2pdevice=off")
	}
	if c.Channels > 1 {
		settings = append(settings, fmt.Sprintf("channels=%d", c.Channels))
	}
	if c.LongNames {
		settings = append(settings, "names=long")
	}
	if c.Supplicant != "" {
		settings = append(settings, "supplicant="+c.Supplicant)
	}
	if len(settings) == 0 {
		return "default"
	}
	return strings.Join(settings, ",")
}

// Trees names the trees of nigh/lab/vm that a guest for this cell must have.
func (c Cell) Trees() []string {
	if c.Supplicant == "" {
		return nil
	}
	return []string{supplicantTree(c.Supplicant)}
}

func supplicantTree(version string) string { return "wpasupplicant-" + version }

// onCell fills what the configuration leaves open with what the environment asks for.
func (c Config) onCell() (Config, error) {
	cell, err := ParseCell(os.Getenv(CellEnv))
	if err != nil {
		return c, err
	}
	c.NoP2PDevice = c.NoP2PDevice || cell.NoP2PDevice
	c.LongNames = c.LongNames || cell.LongNames
	if c.Channels == 0 {
		c.Channels = max(1, cell.Channels)
	}
	if c.Supplicant == "" {
		c.Supplicant = cell.Supplicant
	}
	if c.Radios == 0 {
		c.Radios = 1
	}
	return c, nil
}
