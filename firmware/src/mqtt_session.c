#include "mqtt_session.h"

#include "net.h"
#include "tls_credentials.h"

#include <errno.h>
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>
#include <zephyr/net/mqtt.h>
#include <zephyr/net/socket.h>

LOG_MODULE_REGISTER(fl_session, CONFIG_FL_LOG_LEVEL);

#define UNANSWERED_PINGS_MAX 1

static struct session {
    const struct config *config;
    const struct session_handlers *handlers;
    enum session_state state;
    int64_t answer_by_ms; /* of CONNECT */
    uint16_t last_message_id;
    char client_id[FL_ID_MAX + 1];
    struct mqtt_client client;
    struct sockaddr_in broker;
    struct mqtt_topic will_topic;
    struct mqtt_utf8 will_payload;
    struct mqtt_utf8 user;
    struct mqtt_utf8 password;
    bool in_payload;             /* a message's payload is on its way */
    uint32_t payload_left_bytes; /* of it */
    uint16_t payload_message_id; /* 0: no receipt wanted */
    uint8_t rx[CONFIG_FL_MQTT_RX_BYTES];
    uint8_t tx[CONFIG_FL_MQTT_TX_BYTES];
    uint8_t chunk[CONFIG_FL_PAYLOAD_CHUNK_BYTES];
} session;

static struct mqtt_utf8 utf8_of(const char *string)
{
    return (struct mqtt_utf8){.utf8 = (const uint8_t *)string, .size = strlen(string)};
}

static int socket_of(const struct mqtt_client *client)
{
#ifdef CONFIG_FL_TLS
    return client->transport.tls.sock;
#else
    return client->transport.tcp.sock;
#endif
}

/* what the client reports */

static void on_publish(const struct mqtt_publish_param *publish)
{
    const struct mqtt_publish_message *message = &publish->message;

    session.in_payload = true;
    session.payload_left_bytes = message->payload.len;
    session.payload_message_id =
        message->topic.qos == MQTT_QOS_1_AT_LEAST_ONCE ? publish->message_id : 0;
    session.handlers->message_begin((const char *)message->topic.topic.utf8,
                                    message->topic.topic.size, message->payload.len);
}

static void on_closed(int reason)
{
    if (session.state == SESSION_CLOSED) {
        return;
    }
    LOG_WRN("the connection to the broker is lost (%d)", reason);
    session.state = SESSION_CLOSED;
    session.in_payload = false;
    session.handlers->closed();
}

static void on_event(struct mqtt_client *client, const struct mqtt_evt *event)
{
    ARG_UNUSED(client);
    switch (event->type) {
    case MQTT_EVT_CONNACK:
        if (event->result != 0) {
            LOG_ERR("the broker refuses the connection (%d)", event->result);
        } else {
            LOG_INF("connected to the broker");
            session.state = SESSION_OPEN;
            session.handlers->opened();
        }
        break;
    case MQTT_EVT_PUBLISH:
        if (event->result == 0) {
            on_publish(&event->param.publish);
        }
        break;
    case MQTT_EVT_PUBACK:
        if (event->result == 0) {
            session.handlers->delivered(event->param.puback.message_id);
        }
        break;
    case MQTT_EVT_DISCONNECT:
        on_closed(event->result);
        break;
    case MQTT_EVT_SUBACK:
        if (event->result != 0) {
            LOG_ERR("the broker's answer to a subscription is broken (%d)", event->result);
        } else if (event->param.suback.return_codes.len > 0 &&
                   event->param.suback.return_codes.data[0] == MQTT_SUBACK_FAILURE) {
            LOG_ERR("the broker refuses a subscription: this proplet may not read that topic");
        }
        break;
    default:
        break;
    }
}

/* connecting */

void session_begin(const struct config *config, const struct session_handlers *handlers,
                   const char *will_topic, const char *will_payload)
{
    memset(&session, 0, sizeof(session));
    session.config = config;
    for (size_t i = 0; config->proplet_id[i] != '\0'; i++) { /* some brokers take no dot here */
        session.client_id[i] = config->proplet_id[i] == '.' ? '~' : config->proplet_id[i];
    }
    session.handlers = handlers;
    session.will_topic.topic = utf8_of(will_topic);
    session.will_topic.qos = MQTT_QOS_1_AT_LEAST_ONCE;
    session.will_payload = utf8_of(will_payload);
}

enum session_state session_state(void)
{
    return session.state;
}

static void prepare_client(void)
{
    struct mqtt_client *client = &session.client;
    const struct config *config = session.config;

    mqtt_client_init(client);
    client->broker = &session.broker;
    client->evt_cb = on_event;
    client->client_id = utf8_of(session.client_id);
    client->protocol_version = MQTT_VERSION_3_1_1;
    client->will_topic = &session.will_topic;
    client->will_message = &session.will_payload;
    client->rx_buf = session.rx;
    client->rx_buf_size = sizeof(session.rx);
    client->tx_buf = session.tx;
    client->tx_buf_size = sizeof(session.tx);
    if (config->broker_user[0] != '\0') {
        session.user = utf8_of(config->broker_user);
        session.password = utf8_of(config->broker_password);
        client->user_name = &session.user;
        client->password = &session.password;
    }
#ifdef CONFIG_FL_TLS
    static const sec_tag_t tags[] = {FL_TLS_TAG};
    struct mqtt_sec_config *tls = &client->transport.tls.config;

    client->transport.type = MQTT_TRANSPORT_SECURE;
    tls->peer_verify = TLS_PEER_VERIFY_REQUIRED;
    tls->sec_tag_list = tags;
    tls->sec_tag_count = ARRAY_SIZE(tags);
    tls->hostname =
        CONFIG_FL_TLS_HOST_NAME[0] != '\0' ? CONFIG_FL_TLS_HOST_NAME : config->broker_host;
#else
    client->transport.type = MQTT_TRANSPORT_NON_SECURE;
#endif
}

/* A peer that takes nothing for so long is as good as gone. */
static void limit_sending(void)
{
    struct zsock_timeval limit = {.tv_sec = CONFIG_FL_IO_LIMIT_S};
    int socket = socket_of(&session.client);
    int yes = 1;

    if (zsock_setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) {
        LOG_WRN("sending cannot be limited in time (%d)", errno);
    }
    if (zsock_setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)) != 0) {
        LOG_DBG("small messages may be held back (%d)", errno);
    }
}

int session_connect(void)
{
    const struct config *config = session.config;
    int status = net_resolve(config->broker_host, config->broker_port, &session.broker);

    if (status != 0) {
        return status;
    }
    prepare_client();
    session.in_payload = false;
    session.answer_by_ms = k_uptime_get() + CONFIG_FL_IO_LIMIT_S * MSEC_PER_SEC;
    status = mqtt_connect(&session.client);
    if (status != 0) {
        LOG_ERR("no connection to %s:%u (%d)", config->broker_host, config->broker_port, status);
        if (IS_ENABLED(CONFIG_FL_TLS) && status == -ECONNABORTED) {
            LOG_ERR("TLS: no trust between the broker and this proplet, or no common cipher suite");
        }
        return status;
    }
    session.state = SESSION_CONNECTING;
    limit_sending();
    return 0;
}

void session_abort(void)
{
    if (session.state != SESSION_CLOSED) {
        (void)mqtt_abort(&session.client); /* reports MQTT_EVT_DISCONNECT, whatever it returns */
        on_closed(-ECONNABORTED);
    }
}

/* receiving */

static void end_message(void)
{
    session.in_payload = false;
    session.handlers->message_end(session.payload_message_id);
}

/* Moves what has arrived of a payload. Returns whether there may be more at once. */
static bool move_payload(void)
{
    int count;

    if (session.payload_left_bytes == 0) {
        end_message();
        return true;
    }
    count = mqtt_read_publish_payload(&session.client, session.chunk, sizeof(session.chunk));
    if (count <= 0) {
        return false; /* nothing yet; or the session is closed, and that was reported */
    }
    session.handlers->message_bytes(session.chunk, (size_t)count);
    session.payload_left_bytes -= (uint32_t)count;
    if (session.payload_left_bytes == 0) {
        end_message();
    }
    return true;
}

static void receive(void)
{
    int status = 0;

    if (session.in_payload) {
        while (session.in_payload && move_payload()) {
        }
        return;
    }
    status = mqtt_input(&session.client); /* it closes the session itself after an error */
    if (status != 0) {
        LOG_DBG("what the broker sent cannot be used (%d)", status);
    }
    while (session.in_payload && move_payload()) {
    }
}

static void stay_alive(void)
{
    int status;

    if (session.state == SESSION_CONNECTING) {
        if (k_uptime_get() > session.answer_by_ms) {
            LOG_ERR("the broker does not answer");
            session_abort();
        }
        return;
    }
    if (session.client.unacked_ping > UNANSWERED_PINGS_MAX) {
        LOG_ERR("the broker no longer answers");
        session_abort();
        return;
    }
    status = mqtt_live(&session.client);
    if (status != 0 && status != -EAGAIN) {
        session_abort();
    }
}

void session_step(uint32_t limit_ms)
{
    struct zsock_pollfd poll = {.events = ZSOCK_POLLIN};
    int ready;

    if (session.state == SESSION_CLOSED) {
        k_msleep((int32_t)limit_ms);
        return;
    }
    poll.fd = socket_of(&session.client);
    if (session.state == SESSION_OPEN) {
        int alive_ms = mqtt_keepalive_time_left(&session.client);

        limit_ms = alive_ms >= 0 ? MIN(limit_ms, (uint32_t)alive_ms) : limit_ms;
    }
    ready = zsock_poll(&poll, 1, (int)MIN(limit_ms, INT32_MAX));
    if (ready < 0) {
        LOG_ERR("the socket cannot be watched (%d)", errno);
        session_abort();
        return;
    }
    if (ready > 0 && (poll.revents & ZSOCK_POLLIN) != 0) {
        receive();
    } else if (ready > 0) {
        session_abort();
    }
    if (session.state != SESSION_CLOSED) {
        stay_alive();
    }
}

/* sending */

static uint16_t next_message_id(void)
{
    session.last_message_id++;
    if (session.last_message_id == 0) {
        session.last_message_id = 1;
    }
    return session.last_message_id;
}

/* What cannot be sent ends the session: half a packet may be under way. */
static int sent(int status, const char *what)
{
    if (status != 0 && session.state == SESSION_OPEN) {
        LOG_ERR("%s cannot be sent (%d)", what, status);
        session_abort();
    }
    return status;
}

int session_publish(const char *topic, const void *payload, size_t size, uint16_t *message_id)
{
    struct mqtt_publish_param publish = {0};

    if (session.state != SESSION_OPEN) {
        return -ENOTCONN;
    }
    publish.message.topic.topic = utf8_of(topic);
    publish.message.topic.qos = MQTT_QOS_1_AT_LEAST_ONCE;
    publish.message.payload.data = (uint8_t *)payload;
    publish.message.payload.len = size;
    publish.message_id = next_message_id();
    if (message_id != NULL) {
        *message_id = publish.message_id;
    }
    return sent(mqtt_publish(&session.client, &publish), "a message");
}

int session_subscribe(const char *topic)
{
    struct mqtt_topic entry = {.topic = utf8_of(topic), .qos = MQTT_QOS_1_AT_LEAST_ONCE};
    struct mqtt_subscription_list list = {.list = &entry, .list_count = 1};

    if (session.state != SESSION_OPEN) {
        return -ENOTCONN;
    }
    list.message_id = next_message_id();
    return sent(mqtt_subscribe(&session.client, &list), "a subscription");
}

int session_unsubscribe(const char *topic)
{
    struct mqtt_topic entry = {.topic = utf8_of(topic)};
    struct mqtt_subscription_list list = {.list = &entry, .list_count = 1};

    if (session.state != SESSION_OPEN) {
        return -ENOTCONN;
    }
    list.message_id = next_message_id();
    return sent(mqtt_unsubscribe(&session.client, &list), "the end of a subscription");
}

int session_acknowledge(uint16_t message_id)
{
    struct mqtt_puback_param receipt = {.message_id = message_id};

    if (session.state != SESSION_OPEN) {
        return -ENOTCONN;
    }
    return sent(mqtt_publish_qos1_ack(&session.client, &receipt), "a receipt");
}
