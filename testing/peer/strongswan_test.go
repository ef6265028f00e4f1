package peer

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ikegod/ikegod/testing/netns"
)

// need gets strongSwan, or skips loudly; in CI it must be there.
func need(t *testing.T) {
	t.Helper()
	netns.Need(t, "nsenter")
	if _, err := Fetched(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("NOT TESTED, and required in CI: strongSwan: %v", err)
		}
		t.Skipf("NOT TESTED: strongSwan as a peer: %v", err)
	}
}

// swanctlConf is one gateway of the topology. Our ESP needs UDP encapsulation, which encap=yes asks for.
func swanctlConf(west bool, ike, esp, extra string) string {
	local, remote, localID, remoteID, localNet, remoteNet := netns.East, netns.West, "east", "west", netns.EastNet, netns.WestNet
	if west {
		local, remote, localID, remoteID, localNet, remoteNet = remote, local, remoteID, localID, remoteNet, localNet
	}
	return strings.NewReplacer("LOCALNET", localNet, "REMOTENET", remoteNet, "LOCALID", localID, "REMOTEID", remoteID, "LOCAL", local, "REMOTE", remote,
		"IKEPROPOSALS", ike, "ESPPROPOSALS", esp, "EXTRA", extra).Replace(`connections {
  tunnel {
    version = 2
    local_addrs = LOCAL
    remote_addrs = REMOTE
    proposals = IKEPROPOSALS
    encap = yes
    EXTRA
    local {
      auth = psk
      id = LOCALID
    }
    remote {
      auth = psk
      id = REMOTEID
    }
    children {
      net {
        local_ts = LOCALNET
        remote_ts = REMOTENET
        esp_proposals = ESPPROPOSALS
      }
    }
  }
}
secrets {
  ike-tunnel {
    secret = "a secret that nobody guesses"
  }
}
`)
}

// TestStrongSwanItself shows that the harness works, so that a failure of the other tests is ours.
func TestStrongSwanItself(t *testing.T) {
	need(t)
	_, west, east := netns.Gateways(t)
	e, err := Start(east, swanctlConf(false, "aes256gcm16-prfsha512-ecp256", "aes256gcm16", ""))
	if err != nil {
		t.Fatal(err)
	}
	w, err := Start(west, swanctlConf(true, "aes256gcm16-prfsha512-ecp256", "aes256gcm16", ""))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.Swanctl("--initiate", "--child", "net", "--timeout", "20"); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, e.Log())
	}
	if out, err := west.Output("ping", "-c", "2", "-i", "0.1", "-W", "2", "-I", netns.WestInner, netns.EastInner); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := netns.Transfer(t.Context(), east, netns.EastInner+":0", west, netns.WestInner, 2<<20); err != nil {
		t.Error(err)
	}
	if out, err := e.Swanctl("--list-sas"); err != nil || !strings.Contains(out, "INSTALLED, TUNNEL-in-UDP") {
		t.Errorf("%v: %s", err, out)
	}
	begin := time.Now()
	if err := w.Stop(); err != nil || time.Since(begin) > 8*time.Second {
		t.Errorf("stopping took %s: %v", time.Since(begin), err)
	}
}
