-- PRACTICE SERVER: a rehearsal double, not WSO2's product.
-- Comments, ratings and likes of assets: 4 tables.

CREATE TABLE IF NOT EXISTS SOCIAL_COMMENTS (
    id INTEGER NOT NULL AUTO_INCREMENT,
    payload_context_id VARCHAR(255) NOT NULL,
    body VARCHAR(2000) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    tenant_domain VARCHAR(255),
    likes INTEGER DEFAULT 0,
    unlikes INTEGER DEFAULT 0,
    timestamp BIGINT,
    PRIMARY KEY (id)
);

CREATE TABLE IF NOT EXISTS SOCIAL_RATING (
    comment_id INTEGER NOT NULL,
    payload_context_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    tenant_domain VARCHAR(255),
    rating INTEGER,
    timestamp BIGINT,
    PRIMARY KEY (comment_id)
);

CREATE TABLE IF NOT EXISTS SOCIAL_RATING_CACHE (
    payload_context_id VARCHAR(255) NOT NULL,
    rating_total INTEGER,
    rating_count INTEGER,
    rating_average DOUBLE,
    tenant_domain VARCHAR(255),
    PRIMARY KEY (payload_context_id)
);

CREATE TABLE IF NOT EXISTS SOCIAL_LIKES (
    payload_context_id VARCHAR(255) NOT NULL,
    user_id VARCHAR(255) NOT NULL,
    tenant_domain VARCHAR(255),
    like_value INTEGER,
    timestamp BIGINT,
    PRIMARY KEY (payload_context_id, user_id)
);
