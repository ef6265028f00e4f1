package uml_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/ikegod/ikegod/testing/netns"
	"github.com/ikegod/ikegod/testing/peer"
	"github.com/ikegod/ikegod/testing/uml"
)

// strongswan is a need of tests: the packages, which are downloaded outside.
func strongswan() ([]string, error) {
	_, err := peer.Fetched()
	return nil, err
}

// startStrongSwan starts a strongSwan that has its ESP in the kernel.
func startStrongSwan(s scenario, here, there end) (other, error) {
	return startCharon(s, here, there, "none")
}

// startStrongSwanTrap is startStrongSwan, where a packet starts strongSwan.
func startStrongSwanTrap(s scenario, here, there end) (other, error) {
	return startCharon(s, here, there, "trap")
}

func startCharon(s scenario, here, there end, action string) (other, error) {
	mode, selectors, encap := "tunnel", fmt.Sprintf("local_ts = %s\n        remote_ts = %s", here.net, there.net), "no"
	if s.transport {
		mode, selectors = "transport", ""
	}
	if slices.Contains(s.conn, "encapsulation=yes") {
		encap = "yes"
	}
	return peer.StartWith(here.host, peer.ESPKernel, fmt.Sprintf(`connections {
  meeting {
    version = 2
    local_addrs = %[1]s
    remote_addrs = %[2]s
    proposals = aes256gcm16-prfsha512-x25519
    encap = %[3]s
    local {
      auth = psk
      id = %[4]s
    }
    remote {
      auth = psk
      id = %[5]s
    }
    children {
      meeting {
        mode = %[6]s
        start_action = %[8]s
        esp_proposals = aes256gcm16-esn-noesn
        %[7]s
      }
    }
  }
}
secrets {
  ike-all {
    secret = "a secret that nobody guesses"
  }
}
`, here.addr, there.seen, encap, here.name, there.name, mode, selectors, action))
}

// TestStrongSwan meets strongSwan 5.9.8 with its ESP in the kernel, in every scenario but those over TCP, which it does not have: plain ESP and transport
// mode, which its userspace ESP lacks, among them.
func TestStrongSwan(t *testing.T) {
	everywhere(t, opponent{
		need: strongswan, start: startStrongSwan, fits: func(s scenario) bool { return s.carrier != "ESPinTCP" }, load: 20 * megabytes,
		always: []string{"userspace-plain"},
	})
}

// TestStrongSwanPlainESP meets it by plain ESP, which its userspace ESP lacks, over IPv4 and IPv6, with as many octets as `make interop` transfers by other carriers.
func TestStrongSwanPlainESP(t *testing.T) {
	o := opponent{need: strongswan, start: startStrongSwan}
	for _, s := range []scenario{{name: "IPv4", place: direct, carrier: "ESP"}, {name: "IPv6", place: direct6, carrier: "ESP"}} {
		t.Run(s.name, func(t *testing.T) {
			fullOnly(t)
			if !uml.Outside(t, uml.Full, uml.Programs, o.need) {
				meet(t, userspace, s, o).both(t, 50*megabytes)
			}
		})
	}
}

// direct6 is direct over IPv6.
func direct6(t *testing.T) (ours, theirs end) {
	t.Helper()
	ours, theirs = direct(t)
	ours.addr, ours.seen, theirs.addr, theirs.seen = netns.West6, netns.West6, netns.East6, netns.East6
	return ours, theirs
}
