package iana

// Notify is a notify message type (RFC 7296 3.10.1). Below 16384 it is an error.
type Notify uint16

// Error reports whether the notify type is in the error range.
func (n Notify) Error() bool { return n < 16384 }

// Notify message types: errors.
const (
	UNSUPPORTED_CRITICAL_PAYLOAD Notify = 1  // RFC 7296 3.10.1
	INVALID_IKE_SPI              Notify = 4  // RFC 7296 3.10.1
	INVALID_MAJOR_VERSION        Notify = 5  // RFC 7296 3.10.1
	INVALID_SYNTAX               Notify = 7  // RFC 7296 3.10.1
	INVALID_MESSAGE_ID           Notify = 9  // RFC 7296 3.10.1
	INVALID_SPI                  Notify = 11 // RFC 7296 3.10.1
	NO_PROPOSAL_CHOSEN           Notify = 14 // RFC 7296 3.10.1
	INVALID_KE_PAYLOAD           Notify = 17 // RFC 7296 3.10.1
	AUTHENTICATION_FAILED        Notify = 24 // RFC 7296 3.10.1
	SINGLE_PAIR_REQUIRED         Notify = 34 // RFC 7296 3.10.1
	NO_ADDITIONAL_SAS            Notify = 35 // RFC 7296 3.10.1
	INTERNAL_ADDRESS_FAILURE     Notify = 36 // RFC 7296 3.10.1
	FAILED_CP_REQUIRED           Notify = 37 // RFC 7296 3.10.1
	TS_UNACCEPTABLE              Notify = 38 // RFC 7296 3.10.1
	INVALID_SELECTORS            Notify = 39 // RFC 7296 3.10.1
	UNACCEPTABLE_ADDRESSES       Notify = 40 // RFC 4555
	UNEXPECTED_NAT_DETECTED      Notify = 41 // RFC 4555
	USE_ASSIGNED_HoA             Notify = 42 // RFC 5026
	TEMPORARY_FAILURE            Notify = 43 // RFC 7296 3.10.1
	CHILD_SA_NOT_FOUND           Notify = 44 // RFC 7296 3.10.1
	INVALID_GROUP_ID             Notify = 45 // RFC 9838
	AUTHORIZATION_FAILED         Notify = 46 // RFC 9838
	STATE_NOT_FOUND              Notify = 47 // RFC 9370
	TS_MAX_QUEUE                 Notify = 48 // RFC 9611
	REGISTRATION_FAILED          Notify = 49 // RFC 9838
)

// Notify message types: status.
const (
	INITIAL_CONTACT                     Notify = 16384 // RFC 7296 3.10.1
	SET_WINDOW_SIZE                     Notify = 16385 // RFC 7296 3.10.1
	ADDITIONAL_TS_POSSIBLE              Notify = 16386 // RFC 7296 3.10.1
	IPCOMP_SUPPORTED                    Notify = 16387 // RFC 7296 3.10.1
	NAT_DETECTION_SOURCE_IP             Notify = 16388 // RFC 7296 3.10.1
	NAT_DETECTION_DESTINATION_IP        Notify = 16389 // RFC 7296 3.10.1
	COOKIE                              Notify = 16390 // RFC 7296 3.10.1
	USE_TRANSPORT_MODE                  Notify = 16391 // RFC 7296 3.10.1
	HTTP_CERT_LOOKUP_SUPPORTED          Notify = 16392 // RFC 7296 3.10.1
	REKEY_SA                            Notify = 16393 // RFC 7296 3.10.1
	ESP_TFC_PADDING_NOT_SUPPORTED       Notify = 16394 // RFC 7296 3.10.1
	NON_FIRST_FRAGMENTS_ALSO            Notify = 16395 // RFC 7296 3.10.1
	MOBIKE_SUPPORTED                    Notify = 16396 // RFC 4555
	ADDITIONAL_IP4_ADDRESS              Notify = 16397 // RFC 4555
	ADDITIONAL_IP6_ADDRESS              Notify = 16398 // RFC 4555
	NO_ADDITIONAL_ADDRESSES             Notify = 16399 // RFC 4555
	UPDATE_SA_ADDRESSES                 Notify = 16400 // RFC 4555
	COOKIE2                             Notify = 16401 // RFC 4555
	NO_NATS_ALLOWED                     Notify = 16402 // RFC 4555
	AUTH_LIFETIME                       Notify = 16403 // RFC 4478
	MULTIPLE_AUTH_SUPPORTED             Notify = 16404 // RFC 4739
	ANOTHER_AUTH_FOLLOWS                Notify = 16405 // RFC 4739
	REDIRECT_SUPPORTED                  Notify = 16406 // RFC 5685
	REDIRECT                            Notify = 16407 // RFC 5685
	REDIRECTED_FROM                     Notify = 16408 // RFC 5685
	TICKET_LT_OPAQUE                    Notify = 16409 // RFC 5723
	TICKET_REQUEST                      Notify = 16410 // RFC 5723
	TICKET_ACK                          Notify = 16411 // RFC 5723
	TICKET_NACK                         Notify = 16412 // RFC 5723
	TICKET_OPAQUE                       Notify = 16413 // RFC 5723
	LINK_ID                             Notify = 16414 // RFC 5739
	USE_WESP_MODE                       Notify = 16415 // RFC 5840
	ROHC_SUPPORTED                      Notify = 16416 // RFC 5857
	EAP_ONLY_AUTHENTICATION             Notify = 16417 // RFC 5998
	CHILDLESS_IKEV2_SUPPORTED           Notify = 16418 // RFC 6023
	QUICK_CRASH_DETECTION               Notify = 16419 // RFC 6290
	IKEV2_MESSAGE_ID_SYNC_SUPPORTED     Notify = 16420 // RFC 6311
	IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED Notify = 16421 // RFC 6311
	IKEV2_MESSAGE_ID_SYNC               Notify = 16422 // RFC 6311
	IPSEC_REPLAY_COUNTER_SYNC           Notify = 16423 // RFC 6311
	SECURE_PASSWORD_METHODS             Notify = 16424 // RFC 6467
	PSK_PERSIST                         Notify = 16425 // RFC 6631
	PSK_CONFIRM                         Notify = 16426 // RFC 6631
	ERX_SUPPORTED                       Notify = 16427 // RFC 6867
	IFOM_CAPABILITY                     Notify = 16428 // 3GPP TS 24.303
	GROUP_SENDER                        Notify = 16429 // RFC 9838
	IKEV2_FRAGMENTATION_SUPPORTED       Notify = 16430 // RFC 7383
	SIGNATURE_HASH_ALGORITHMS           Notify = 16431 // RFC 7427
	CLONE_IKE_SA_SUPPORTED              Notify = 16432 // RFC 7791
	CLONE_IKE_SA                        Notify = 16433 // RFC 7791
	PUZZLE                              Notify = 16434 // RFC 8019
	USE_PPK                             Notify = 16435 // RFC 8784
	PPK_IDENTITY                        Notify = 16436 // RFC 8784
	NO_PPK_AUTH                         Notify = 16437 // RFC 8784
	INTERMEDIATE_EXCHANGE_SUPPORTED     Notify = 16438 // RFC 9242
	IP4_ALLOWED                         Notify = 16439 // RFC 8983
	IP6_ALLOWED                         Notify = 16440 // RFC 8983
	ADDITIONAL_KEY_EXCHANGE             Notify = 16441 // RFC 9370
	USE_AGGFRAG                         Notify = 16442 // RFC 9347
	SUPPORTED_AUTH_METHODS              Notify = 16443 // RFC 9593
	SA_RESOURCE_INFO                    Notify = 16444 // RFC 9611
	USE_PPK_INT                         Notify = 16445 // RFC 9867
	PPK_IDENTITY_KEY                    Notify = 16446 // RFC 9867
)

var notifyNames = map[Notify]string{
	UNSUPPORTED_CRITICAL_PAYLOAD:        "UNSUPPORTED_CRITICAL_PAYLOAD",
	INVALID_IKE_SPI:                     "INVALID_IKE_SPI",
	INVALID_MAJOR_VERSION:               "INVALID_MAJOR_VERSION",
	INVALID_SYNTAX:                      "INVALID_SYNTAX",
	INVALID_MESSAGE_ID:                  "INVALID_MESSAGE_ID",
	INVALID_SPI:                         "INVALID_SPI",
	NO_PROPOSAL_CHOSEN:                  "NO_PROPOSAL_CHOSEN",
	INVALID_KE_PAYLOAD:                  "INVALID_KE_PAYLOAD",
	AUTHENTICATION_FAILED:               "AUTHENTICATION_FAILED",
	SINGLE_PAIR_REQUIRED:                "SINGLE_PAIR_REQUIRED",
	NO_ADDITIONAL_SAS:                   "NO_ADDITIONAL_SAS",
	INTERNAL_ADDRESS_FAILURE:            "INTERNAL_ADDRESS_FAILURE",
	FAILED_CP_REQUIRED:                  "FAILED_CP_REQUIRED",
	TS_UNACCEPTABLE:                     "TS_UNACCEPTABLE",
	INVALID_SELECTORS:                   "INVALID_SELECTORS",
	UNACCEPTABLE_ADDRESSES:              "UNACCEPTABLE_ADDRESSES",
	UNEXPECTED_NAT_DETECTED:             "UNEXPECTED_NAT_DETECTED",
	USE_ASSIGNED_HoA:                    "USE_ASSIGNED_HoA",
	TEMPORARY_FAILURE:                   "TEMPORARY_FAILURE",
	CHILD_SA_NOT_FOUND:                  "CHILD_SA_NOT_FOUND",
	INVALID_GROUP_ID:                    "INVALID_GROUP_ID",
	AUTHORIZATION_FAILED:                "AUTHORIZATION_FAILED",
	STATE_NOT_FOUND:                     "STATE_NOT_FOUND",
	TS_MAX_QUEUE:                        "TS_MAX_QUEUE",
	REGISTRATION_FAILED:                 "REGISTRATION_FAILED",
	INITIAL_CONTACT:                     "INITIAL_CONTACT",
	SET_WINDOW_SIZE:                     "SET_WINDOW_SIZE",
	ADDITIONAL_TS_POSSIBLE:              "ADDITIONAL_TS_POSSIBLE",
	IPCOMP_SUPPORTED:                    "IPCOMP_SUPPORTED",
	NAT_DETECTION_SOURCE_IP:             "NAT_DETECTION_SOURCE_IP",
	NAT_DETECTION_DESTINATION_IP:        "NAT_DETECTION_DESTINATION_IP",
	COOKIE:                              "COOKIE",
	USE_TRANSPORT_MODE:                  "USE_TRANSPORT_MODE",
	HTTP_CERT_LOOKUP_SUPPORTED:          "HTTP_CERT_LOOKUP_SUPPORTED",
	REKEY_SA:                            "REKEY_SA",
	ESP_TFC_PADDING_NOT_SUPPORTED:       "ESP_TFC_PADDING_NOT_SUPPORTED",
	NON_FIRST_FRAGMENTS_ALSO:            "NON_FIRST_FRAGMENTS_ALSO",
	MOBIKE_SUPPORTED:                    "MOBIKE_SUPPORTED",
	ADDITIONAL_IP4_ADDRESS:              "ADDITIONAL_IP4_ADDRESS",
	ADDITIONAL_IP6_ADDRESS:              "ADDITIONAL_IP6_ADDRESS",
	NO_ADDITIONAL_ADDRESSES:             "NO_ADDITIONAL_ADDRESSES",
	UPDATE_SA_ADDRESSES:                 "UPDATE_SA_ADDRESSES",
	COOKIE2:                             "COOKIE2",
	NO_NATS_ALLOWED:                     "NO_NATS_ALLOWED",
	AUTH_LIFETIME:                       "AUTH_LIFETIME",
	MULTIPLE_AUTH_SUPPORTED:             "MULTIPLE_AUTH_SUPPORTED",
	ANOTHER_AUTH_FOLLOWS:                "ANOTHER_AUTH_FOLLOWS",
	REDIRECT_SUPPORTED:                  "REDIRECT_SUPPORTED",
	REDIRECT:                            "REDIRECT",
	REDIRECTED_FROM:                     "REDIRECTED_FROM",
	TICKET_LT_OPAQUE:                    "TICKET_LT_OPAQUE",
	TICKET_REQUEST:                      "TICKET_REQUEST",
	TICKET_ACK:                          "TICKET_ACK",
	TICKET_NACK:                         "TICKET_NACK",
	TICKET_OPAQUE:                       "TICKET_OPAQUE",
	LINK_ID:                             "LINK_ID",
	USE_WESP_MODE:                       "USE_WESP_MODE",
	ROHC_SUPPORTED:                      "ROHC_SUPPORTED",
	EAP_ONLY_AUTHENTICATION:             "EAP_ONLY_AUTHENTICATION",
	CHILDLESS_IKEV2_SUPPORTED:           "CHILDLESS_IKEV2_SUPPORTED",
	QUICK_CRASH_DETECTION:               "QUICK_CRASH_DETECTION",
	IKEV2_MESSAGE_ID_SYNC_SUPPORTED:     "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
	IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED: "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED",
	IKEV2_MESSAGE_ID_SYNC:               "IKEV2_MESSAGE_ID_SYNC",
	IPSEC_REPLAY_COUNTER_SYNC:           "IPSEC_REPLAY_COUNTER_SYNC",
	SECURE_PASSWORD_METHODS:             "SECURE_PASSWORD_METHODS",
	PSK_PERSIST:                         "PSK_PERSIST",
	PSK_CONFIRM:                         "PSK_CONFIRM",
	ERX_SUPPORTED:                       "ERX_SUPPORTED",
	IFOM_CAPABILITY:                     "IFOM_CAPABILITY",
	GROUP_SENDER:                        "GROUP_SENDER",
	IKEV2_FRAGMENTATION_SUPPORTED:       "IKEV2_FRAGMENTATION_SUPPORTED",
	SIGNATURE_HASH_ALGORITHMS:           "SIGNATURE_HASH_ALGORITHMS",
	CLONE_IKE_SA_SUPPORTED:              "CLONE_IKE_SA_SUPPORTED",
	CLONE_IKE_SA:                        "CLONE_IKE_SA",
	PUZZLE:                              "PUZZLE",
	USE_PPK:                             "USE_PPK",
	PPK_IDENTITY:                        "PPK_IDENTITY",
	NO_PPK_AUTH:                         "NO_PPK_AUTH",
	INTERMEDIATE_EXCHANGE_SUPPORTED:     "INTERMEDIATE_EXCHANGE_SUPPORTED",
	IP4_ALLOWED:                         "IP4_ALLOWED",
	IP6_ALLOWED:                         "IP6_ALLOWED",
	ADDITIONAL_KEY_EXCHANGE:             "ADDITIONAL_KEY_EXCHANGE",
	USE_AGGFRAG:                         "USE_AGGFRAG",
	SUPPORTED_AUTH_METHODS:              "SUPPORTED_AUTH_METHODS",
	SA_RESOURCE_INFO:                    "SA_RESOURCE_INFO",
	USE_PPK_INT:                         "USE_PPK_INT",
	PPK_IDENTITY_KEY:                    "PPK_IDENTITY_KEY",
}

// String returns the registry's name, or "notify(N)".
func (n Notify) String() string { return name(notifyNames, n, "notify") }
