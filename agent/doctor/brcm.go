package doctor

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"

	"nigh/link"
)

// chip is what is known of a Broadcom radio and what drives it.
type chip struct {
	ifname   string
	driver   string // "brcmfmac"
	firmware string // "9.88.4.77"
	wpa      string // "2.10"
	release  string // of Debian or Raspberry Pi OS: "2:2.10-24+rpt1"
	cmdline  string // of the kernel
}

// brcm names faults of the radios of Raspberry Pis that are known, and that nigh cannot work around alone. Without such a radio
// there is nothing to say.
func brcm(ctx context.Context, c Config) []Check {
	cards, _ := filepath.Glob(filepath.Join(c.sys, "class/net/*/phy80211"))
	for _, card := range cards {
		ifname := filepath.Base(filepath.Dir(card))
		driver, firmware := link.Driver(ifname)
		if driver != "brcmfmac" {
			continue
		}
		return []Check{chip{
			ifname: ifname, driver: driver, firmware: firmware, wpa: supplicantVersion(ctx),
			release: packageVersion(readFile("/var/lib/dpkg/status"), "wpasupplicant"), cmdline: readFile(filepath.Join(c.proc, "cmdline")),
		}.check()}
	}
	return nil
}

func (c chip) check() Check {
	radio := "The Broadcom radio " + c.ifname
	switch {
	case strings.HasPrefix(c.firmware, "9.88."): // BCM43430/2 of some Zero 2 W (RPi-Distro/firmware-nonfree#59)
		return Check{"brcm", Warn, radio + " loses encrypted frames as group owner (firmware " + c.firmware + "), so this device never owns a group.",
			"Let the other device make the group, or update the radio's firmware; intent = 7 in the configuration tries it all the same."}
	case c.wpa == "2.11": // AOSC-Dev/aosc-os-abbs#8771
		return Check{"brcm", Warn, radio + " may time out when it joins a network or a group with wpa_supplicant 2.11.",
			"Use wpa_supplicant 2.10, or a build of 2.11 with that mended."}
	case c.release == "2:2.10-24+rpt1" && !strings.Contains(c.cmdline, "brcmfmac.feature_disable="): // raspberrypi/linux#7634
		return Check{"brcm", Warn, radio + " may lose access points that offer WPA2 and WPA3 both, with this wpa_supplicant (" + c.release + ").",
			"Where that happens, add brcmfmac.feature_disable=0x2282000 to /boot/firmware/cmdline.txt and start again."}
	}
	return Check{"brcm", OK, radio + " has no fault that is known (firmware " + plain(c.firmware) + "): one group at a time, and none beside a hotspot.", ""}
}

// supplicantVersion asks the program, as D-Bus does not tell; "" when there is none.
func supplicantVersion(ctx context.Context) string {
	for _, path := range []string{"/usr/sbin/wpa_supplicant", "/sbin/wpa_supplicant", "/usr/bin/wpa_supplicant"} {
		if out, err := exec.CommandContext(ctx, path, "-v").Output(); err == nil {
			return parseSupplicantVersion(string(out))
		}
	}
	return ""
}

// parseSupplicantVersion reads "wpa_supplicant v2.10".
func parseSupplicantVersion(out string) string {
	first, _, _ := strings.Cut(out, "\n")
	_, version, _ := strings.Cut(first, " v")
	version, _, _ = strings.Cut(strings.TrimSpace(version), "-")
	return version
}

// packageVersion finds a package in dpkg's list.
func packageVersion(status, name string) string {
	for stanza := range strings.SplitSeq(status, "\n\n") {
		if !strings.HasPrefix(stanza, "Package: "+name+"\n") {
			continue
		}
		for line := range strings.Lines(stanza) {
			if v, ok := strings.CutPrefix(line, "Version: "); ok {
				return strings.TrimSpace(v)
			}
		}
	}
	return ""
}
